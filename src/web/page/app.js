'use strict';

// What registries say is only ever put into the page as text.

const at = (id) => document.getElementById(id);

/** Sizes as kharon writes them: decimal, two digits that count. */
function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** Asks the API; throws what it says where it says no. */
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw { message: 'the server cannot be reached', hint: 'check that it runs, and the network' };
  }
  const document = await answer.json().catch(() => ({}));
  if (answer.ok) return document;
  throw document.error ?? { message: `the server answered ${answer.status}` };
}

function fail(error) {
  at('message').textContent = error.message ?? String(error);
  at('hint').textContent = error.hint ?? '';
  at('error').hidden = false;
}

function begin(button, status, text) {
  button.setAttribute('aria-disabled', 'true');
  at(status).textContent = text;
}

function end(button, status, text) {
  button.setAttribute('aria-disabled', 'false');
  at(status).textContent = text;
}

function forget(...ids) {
  at('error').hidden = true;
  for (const id of ids) at(id).hidden = true;
}

/** What names the images in a query: those of the first form. */
function wanted() {
  return new URLSearchParams(new FormData(at('ask')));
}

/** Offers the platforms that an image has, the chosen one first among equals. */
function offer(platforms) {
  const select = at('platform');
  const known = new Set(Array.from(select.options, (option) => option.value));
  for (const platform of platforms) {
    if (known.has(platform)) continue;
    select.add(new Option(platform, platform), select.options[select.options.length - 1]);
  }
}

function row(layer) {
  const line = document.createElement('tr');
  const digest = document.createElement('td');
  const code = document.createElement('code');
  code.textContent = layer.digest;
  digest.append(code);
  const bytes = document.createElement('td');
  bytes.className = 'number';
  bytes.textContent = size(layer.size);
  line.append(digest, bytes);
  return line;
}

function show(tar) {
  const layers = tar.images.flatMap((image) => image.layers);
  at('found-title').textContent = tar.images
    .map((image) => image.name + (image.platform ? ` (${image.platform})` : ''))
    .join(', ');
  at('size').textContent = size(tar.tarBytes);
  at('layer-count').textContent = String(layers.length);
  at('digest').textContent = tar.images.map((image) => image.root.digest).join(' ');
  at('rows').replaceChildren(...layers.map(row));
  at('download').href = tar.download;
  offer(tar.images.flatMap((image) => image.platforms));
  at('found').hidden = false;
  at('payload').hidden = false;
  at('found-title').focus();
}

at('ask').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (at('look').getAttribute('aria-disabled') === 'true') return;
  forget('found', 'payload', 'plan-actions');
  at('plan-status').textContent = '';
  begin(at('look'), 'status', 'Asking the registry…');
  try {
    const tar = await ask(`/api/v1/image?${wanted()}`);
    end(at('look'), 'status', `Found: ${size(tar.tarBytes)}.`);
    show(tar);
  } catch (error) {
    end(at('look'), 'status', '');
    fail(error);
    at('image').focus();
  }
});

at('compare').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (at('plan').getAttribute('aria-disabled') === 'true') return;
  forget('plan-actions');
  begin(at('plan'), 'plan-status', 'Planning…');
  try {
    const query = wanted();
    query.append('has', at('has').value);
    const [receipt] = at('receipt').files;
    if (receipt) {
      const headers = { 'Content-Type': 'application/json' };
      const kept = await ask('/api/v1/baselines', { method: 'POST', headers, body: receipt });
      query.append('baseline', kept.id);
    }
    const plan = await ask(`/api/v1/plan?${query}`);
    const text = `${size(plan.payloadBytes)}: ${count(plan.carriedBlobs, 'blob')} carried (${size(plan.carriedBytes)}), `
      + `${plan.expectedBlobs} expected at the far side (${size(plan.expectedBytes)}).`;
    end(at('plan'), 'plan-status', text);
    at('download-payload').href = plan.download;
    at('plan-actions').hidden = false;
    at('download-payload').focus();
  } catch (error) {
    end(at('plan'), 'plan-status', '');
    fail(error);
  }
});

// A file leaves the page as it is. Only a refusal loads into the frame, and is shown here.
for (const [id, status] of [['download', 'status'], ['download-payload', 'plan-status']]) {
  at(id).addEventListener('click', (event) => {
    event.preventDefault();
    forget();
    at(status).textContent = 'The download begins; the browser shows how far it is.';
    at('downloads').src = at(id).href;
  });
}

at('downloads').addEventListener('load', () => {
  const text = at('downloads').contentDocument?.body?.textContent ?? '';
  if (!text) return;
  at('status').textContent = '';
  try {
    fail(JSON.parse(text).error);
  } catch {
    fail({ message: 'the download could not begin' });
  }
});

ask('/api/v1/settings').then((about) => {
  for (const registry of [about.registry, ...about.registries.filter((it) => it !== about.registry)]) {
    at('registry').add(new Option(registry, registry));
  }
  offer([about.platform]);
  at('platform').value = about.platform;
  at('version').textContent = `kharon ${about.version}`;
}, fail);
