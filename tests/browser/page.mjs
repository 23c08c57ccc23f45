// The page as people use it. Every check that fails ends the run.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [url, registry, expectedTar, work, option, pictures] = process.argv.slice(2);
const hash = async (path) => createHash('sha256').update(await readFile(path)).digest('hex');

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

/** A fresh page; nothing may go wrong in it, nor come from elsewhere. */
async function visit(settings = {}) {
  const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 900, height: 900 }, ...settings });
  const page = await context.newPage();
  page.on('pageerror', (error) => { throw error; });
  page.on('console', (message) => {
    if (/Content Security Policy/.test(message.text())) throw new Error(message.text());
  });
  page.on('request', (request) => assert.ok(request.url().startsWith(url), request.url()));
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('registry').options.length > 0);
  return page;
}

async function test(name, run, settings) {
  const page = await visit(settings);
  try {
    await run(page);
    console.log(`ok: ${name}`);
  } catch (error) {
    console.log(await page.locator('body').innerText());
    throw new Error(`${name}: ${error.message}`, { cause: error });
  } finally {
    await page.context().close();
  }
}

async function lookUp(page, image) {
  await page.getByLabel('Image', { exact: true }).fill(image);
  await page.getByRole('button', { name: 'Look it up' }).click();
}

async function download(page, link) {
  const [file] = await Promise.all([page.waitForEvent('download'), link.click()]);
  const path = join(work, `found-${file.suggestedFilename()}`);
  await file.saveAs(path);
  return [file.suggestedFilename(), path];
}

try {
  await test('an image is found, and its tar is what save writes', async (page) => {
    assert.equal(await page.getByLabel('Registry').inputValue(), registry);
    await lookUp(page, 'worldclock:v1');
    await page.getByRole('heading', { name: /worldclock:v1/ }).waitFor();
    const size = await page.locator('#size').innerText();
    assert.match(size, /\d+ kB/);
    const rows = await page.locator('#rows tr').count();
    assert.equal(String(rows), await page.locator('#layer-count').innerText());
    assert.ok(rows > 0);
    const link = page.getByRole('link', { name: 'Download the tar' });
    const [name, path] = await download(page, link);
    assert.equal(name, 'worldclock_v1_linux-amd64.tar');
    assert.equal(await hash(path), await hash(expectedTar));
  });

  await test('a payload carries what the far side lacks', async (page) => {
    await lookUp(page, 'worldclock:v2');
    await page.getByLabel('Images the far side has').fill('worldclock:v1');
    await page.getByRole('button', { name: 'Plan the payload' }).click();
    const link = page.getByRole('link', { name: 'Download the payload' });
    await link.waitFor();
    assert.match(await page.locator('#plan-status').innerText(), /3 blobs carried.*2 expected/);
    const [, path] = await download(page, link);
    assert.equal((await readFile(path)).subarray(0, 2).toString(), 'PK');
  });

  await test('a receipt is taken, and what is none is refused', async (page) => {
    await lookUp(page, 'worldclock:v2');
    const receipt = {
      version: 1, kind: 'receipt', tool: 'test', registry: 'far.example', time: '2026-01-01T00:00:00Z', repositories: [],
    };
    const file = (content) => ({ name: 'r.json', mimeType: 'application/json', buffer: Buffer.from(content) });
    await page.getByLabel(/^Receipt/).setInputFiles(file(JSON.stringify(receipt)));
    await page.getByRole('button', { name: 'Plan the payload' }).click();
    await page.getByRole('link', { name: 'Download the payload' }).waitFor();
    await page.getByLabel(/^Receipt/).setInputFiles(file('{"no":"receipt"}'));
    await page.getByRole('button', { name: 'Plan the payload' }).click();
    await page.getByRole('alert').getByText('found something else').waitFor();
    assert.ok(await page.getByRole('link', { name: 'Download the payload' }).isHidden());
  });

  await test('a wrong name is said to be one', async (page) => {
    await lookUp(page, 'worldclock:v9');
    await page.getByRole('alert').getByText('does not have').waitFor();
    assert.ok(await page.locator('#found').isHidden());
    await lookUp(page, 'World Clock');
    await page.getByRole('alert').getByText('is no image').waitFor();
    await lookUp(page, 'elsewhere.example/app:1');
    await page.getByRole('alert').getByText('is not allowed here').waitFor();
    await lookUp(page, 'worldclock:v1');
    await page.getByRole('heading', { name: /worldclock:v1/ }).waitFor();
    assert.ok(await page.getByRole('alert').isHidden());
  });

  await test('a download that is refused is told on the page', async (page) => {
    await lookUp(page, 'worldclock:v1');
    await page.locator('#found').waitFor();
    await page.locator('#download').evaluate((link) => { link.href = '/api/v1/tar?image=worldclock:v9'; });
    await page.getByRole('link', { name: 'Download the tar' }).click();
    await page.getByRole('alert').getByText('does not have').waitFor();
    assert.equal(page.url(), `${url}/`);
  });

  await test('the keyboard is enough', async (page) => {
    assert.equal(await page.evaluate(() => document.activeElement.id), 'image');
    await page.keyboard.type('worldclock:v1');
    await page.keyboard.press('Enter');
    await page.locator('#found').waitFor();
    const stops = [];
    for (let step = 0; step < 8; step += 1) {
      stops.push(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName.toLowerCase()));
      await page.keyboard.press('Tab');
    }
    assert.deepEqual(stops, ['found-title', 'download', 'summary', 'has', 'receipt', 'plan', 'a', 'body'].slice(0, stops.length));
    await page.locator('#download').focus();
    const [file] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Enter')]);
    assert.equal(await hash(await file.path()), await hash(expectedTar));
  });

  for (const colorScheme of ['light', 'dark']) {
    await test(`${colorScheme}: what is written can be read`, async (page) => {
      await lookUp(page, 'worldclock:v1');
      await page.locator('#found').waitFor();
      const low = await page.evaluate(contrasts);
      assert.deepEqual(low, []);
      const unnamed = await page.locator('input:visible, select:visible').evaluateAll((fields) => fields.filter((it) => it.labels.length === 0).length);
      assert.equal(unnamed, 0);
      if (option === '--pictures') {
        // Ports change from run to run.
        await page.locator('#registry').evaluate((it) => { it.options[0].text = 'registry.example'; });
        await page.locator('#found-title').evaluate((it) => { it.textContent = it.textContent.replace(/^[^/]*/, 'registry.example'); it.blur(); });
        await page.evaluate(() => window.scrollTo(0, 0));
        await writeFile(join(pictures, `web-${colorScheme}.png`), await page.screenshot({ fullPage: true }));
      }
    }, { colorScheme });
  }
  await test('a narrow screen has no sideways scrolling', async (page) => {
    await lookUp(page, 'worldclock:v1');
    await page.locator('#found').waitFor();
    const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(inner <= outer, `${inner} > ${outer}`);
  }, { viewport: { width: 320, height: 640 } });
} finally {
  await browser.close();
}

/** The texts whose contrast is less than WCAG 2.2 asks for (4.5:1). Runs in the page. */
function contrasts() {
  const numbers = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((part) => {
      const it = part / 255;
      return it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (element) => {
    for (let it = element; it; it = it.parentElement) {
      const color = getComputedStyle(it).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = Array.from(element.childNodes).some((it) => it.nodeType === 3 && it.textContent.trim());
    if (!own || element.offsetParent === null) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(back(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${element.id} ${ratio.toFixed(2)}`);
  }
  return low;
}
