//! `kharon serve` in the background, at a free port in place of the one that a page shows.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A server that ends with its test.
pub struct Served {
    process: Child,
    shown: String,
    real: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    /// Runs `command`, which serves at a free port, in place of the address `shown`. Gives all that it says until it
    /// says where; that alone is the error where it does not.
    pub fn start(mut command: Command, shown: String) -> Result<(Self, String), String> {
        let process = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut served = Self { process, shown, real: String::new() };
        let stderr = served.process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        served.real = loop {
            let Some(Ok(line)) = lines.next() else { return Err(said) };
            said.extend([line.as_str(), "\n"]);
            let address = line.split("://").nth(1).and_then(|rest| rest.split(',').next());
            if let Some(address) = address {
                break address.trim_end_matches('/').to_owned();
            }
        };
        // What it says from now on is nobody's, but it must not stand still for it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok((served, said))
    }

    /// A command with the address that is real.
    pub fn with_real(&self, text: &str) -> String {
        text.replace(&self.shown, &self.real)
    }

    /// Output with the address that the page shows.
    pub fn with_shown(&self, text: &str) -> String {
        text.replace(&self.real, &self.shown)
    }
}
