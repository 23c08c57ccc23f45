//! Options that say what is read in the place of registries.

use std::collections::BTreeMap;

use clap::Args;
use kharon::config::Config;
use kharon::failure::Usage;
use kharon::reference::RegistryHost;
use kharon::registry::{Connections, MirrorOf, Mirrors, Original, refuse_loops};
use kharon::terminal::Terminal;

use super::access::AccessArgs;

#[derive(Debug, Args)]
#[command(next_help_heading = "Access to registries")]
pub(super) struct MirrorArgs {
    /// Read what belongs to the registry SOURCE from HOST, where PREFIX is in front of its repositories;
    /// SOURCE itself is asked for what HOST does not have (repeatable)
    #[arg(long, value_name = "SOURCE=HOST[/PREFIX]")]
    mirror: Vec<MirrorOf>,
    /// Never ask a registry itself that has mirrors
    #[arg(long)]
    mirror_only: bool,
}

impl MirrorArgs {
    /// The settings for reaching registries and their mirrors; `main` is the one given with -r.
    pub(super) fn connections(
        &self,
        access: &AccessArgs,
        main: &RegistryHost,
        config: &Config,
        terminal: &Terminal,
    ) -> Result<Connections, Usage> {
        let mirrors = self.mirrors(config)?;
        Ok(Connections { mirrors, ..access.connections(main, config, terminal) })
    }

    /// All mirrors: for each registry those of the command line, else those of `config`.
    fn mirrors(&self, config: &Config) -> Result<BTreeMap<RegistryHost, Mirrors>, Usage> {
        let mut all: BTreeMap<RegistryHost, Mirrors> = BTreeMap::new();
        for MirrorOf { source, mirror } in &self.mirror {
            all.entry(source.clone()).or_default().mirrors.push(mirror.clone());
        }
        for (host, settings) in &config.registries {
            if let (false, Some(mirrors)) = (all.contains_key(host), &settings.mirrors) {
                let of = Mirrors { mirrors: mirrors.clone(), ..Mirrors::default() };
                all.insert(host.clone(), of);
            }
            let only = settings.mirror_only == Some(true);
            match all.get_mut(host).filter(|of| !of.mirrors.is_empty()) {
                Some(of) if only => of.original = Original::Leave,
                None if only => {
                    let what =
                        format!("`{host}` is `mirror-only` in config.toml and has no mirror");
                    return Err(Usage::new(what).with_hint("name one with `mirror` or `--mirror`"));
                }
                _ => {}
            }
        }
        // An empty list of the user's takes the machine's mirrors away.
        all.retain(|_, of| !of.mirrors.is_empty());
        if self.mirror_only {
            if all.is_empty() {
                return Err(Usage::new("`--mirror-only` was given, and no registry has a mirror")
                    .with_hint("name one with `--mirror`, or in config.toml"));
            }
            for of in all.values_mut() {
                of.original = Original::Leave;
            }
        }
        refuse_loops(&all)
            .map_err(|circle| Usage::new(circle.to_string()).with_hint("take one of them out"))?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What `mirrors` says of one registry: its mirrors and whether it is asked itself.
    type Expected = Result<Option<(Vec<String>, Original)>, String>;

    #[test]
    fn the_command_line_counts_before_the_file() {
        let some = |mirrors: &[&str], original| {
            Ok(Some((mirrors.iter().map(|mirror| (*mirror).to_owned()).collect(), original)))
        };
        let file = "[registry.'a.x']\nmirror = ['b.x', 'c.x']\n";
        let only = "[registry.'a.x']\nmirror = 'b.x'\nmirror-only = true\n";
        let cases: [(&[&str], bool, &str, Expected); 9] = [
            (&[], false, "", Ok(None)),
            (&[], false, file, some(&["b.x", "c.x"], Original::Ask)),
            (&["a.x=d.x"], false, file, some(&["d.x"], Original::Ask)),
            (&["a.x=d.x", "a.x=e.x"], false, "", some(&["d.x", "e.x"], Original::Ask)),
            (&["z.x=d.x"], false, file, some(&["b.x", "c.x"], Original::Ask)),
            (&[], false, only, some(&["b.x"], Original::Leave)),
            (&["a.x=d.x"], false, only, some(&["d.x"], Original::Leave)),
            (&[], true, file, some(&["b.x", "c.x"], Original::Leave)),
            (
                &["b.x=a.x"],
                false,
                file,
                Err("mirrors go in a circle: `a.x` → `b.x` → `a.x`".to_owned()),
            ),
        ];
        for (mirrors, mirror_only, text, expected) in cases {
            let mirror = mirrors.iter().map(|text| text.parse().expect("a mirror")).collect();
            let config = Config::parse(text, Path::new("config.toml")).expect("valid");
            let found = MirrorArgs { mirror, mirror_only }.mirrors(&config);
            let found = found.map_err(|error| error.to_string()).map(|all| {
                let of = all.get(&"a.x".parse().expect("a host"))?;
                let hosts = of.mirrors.iter().map(|mirror| mirror.host.to_string()).collect();
                Some((hosts, of.original))
            });
            assert_eq!(found, expected, "{mirrors:?} {mirror_only} {text}");
        }
    }
}
