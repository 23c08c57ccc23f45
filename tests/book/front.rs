//! A proxy that leads every name of the book to a registry of this process.
//!
//! kharon speaks to it as to any proxy for plain http: the name stands in the first line of a request. A
//! connection belongs to one name, as clients keep one for each.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Longer than any first line of a request that we send.
const FIRST_LINE_MAX_BYTES: usize = 16 * 1024;

/// Serves until the process ends. `hosts` leads from names, with their port if any, to addresses.
pub fn start(hosts: HashMap<String, String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let hosts = Arc::new(hosts);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let hosts = Arc::clone(&hosts);
            thread::spawn(move || pass_on(client, &hosts));
        }
    });
    address
}

#[expect(clippy::print_stderr, reason = "whoever writes a page has to know which name to add")]
fn pass_on(mut client: TcpStream, hosts: &HashMap<String, String>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.contains(&b'\n') && head.len() < FIRST_LINE_MAX_BYTES {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let name = line.split(' ').nth(1).map(|url| url.trim_start_matches("http://"));
    let name = name.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let Some(address) = hosts.get(name) else {
        eprintln!("`{name}` is not in the table of tests/book/world.rs");
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    };
    let mut server = TcpStream::connect(address)?;
    server.write_all(&head)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        to_client.shutdown(Shutdown::Both)
    });
    let _ = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}
