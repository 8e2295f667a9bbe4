//! The other programs, each configured as its own users would for speed, and all alike: keep-alive
//! to client and servers, no access log, the same added headers, a worker for each processor.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use super::{download, workers};
use crate::command;
use crate::process::Running;

/// Starts `program` in a folder of its own with the text of its configuration; `place` puts it into
/// a namespace.
pub(crate) fn start(
    place: &dyn Fn(&Path) -> Command,
    program: &str,
    folder: &Path,
    text: &str,
) -> Result<Running> {
    let path = command::find(program).with_context(|| format!("{program} is not installed"))?;
    std::fs::create_dir_all(folder)?;
    let file = folder.join("peer.conf");
    std::fs::write(&file, text)?;
    let mut command = place(&path);
    match program {
        "nginx" => command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(&file),
        _ => command.args(["-db", "-f"]).arg(&file),
    };
    Running::start(&mut command, &folder.join("log"))
}

/// Bytes of the smallest body.
const SMALL: usize = 100;
/// Where the servers have a body of so many bytes.
pub(crate) const MIDDLING: (&str, u64) = ("/64KiB", 64 << 10);
/// See `MIDDLING`.
pub(crate) const LONG: (&str, u64) = ("/4MiB", 4 << 20);

/// nginx as the servers: it answers at once, on every one of its addresses, and has a large body.
pub(crate) fn server(folder: &Path, listen: &[SocketAddr]) -> Result<String> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(download::PATH.trim_start_matches('/'));
    std::fs::File::create(&file)?.set_len(download::BYTES).context("making the large body")?;
    for (path, bytes) in [MIDDLING, LONG] {
        let file = std::fs::File::create(folder.join(path.trim_start_matches('/')))?;
        file.set_len(bytes).context("making a body")?;
    }
    let listen: String =
        listen.iter().map(|address| format!("listen {address} backlog=4096; ")).collect();
    let (root, path, small) = (folder.display(), download::PATH, "x".repeat(SMALL));
    let server = format!(
        "server {{
           {listen}
           location = / {{ return 200 \"{small}\"; }}
           location / {{ root {root}; sendfile on; tcp_nopush on; }}
           location {path} {{ root {root}; sendfile on; tcp_nopush on; }}
         }}"
    );
    Ok(nginx(folder, &http(folder, &server)))
}

/// nginx as a proxy of connections; Debian has that in the package libnginx-mod-stream.
pub(crate) fn nginx_stream(folder: &Path, listen: SocketAddr, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|address| format!("server {address}; ")).collect();
    let stream = format!(
        "stream {{
           upstream servers {{ {servers} }}
           server {{ listen {listen} reuseport backlog=4096; proxy_pass servers; tcp_nodelay on; }}
         }}"
    );
    let module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n";
    module.to_owned() + &nginx(folder, &stream)
}

/// nginx as a proxy.
pub(crate) fn nginx_proxy(folder: &Path, listen: SocketAddr, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|address| format!("server {address}; ")).collect();
    let proxy = format!(
        "upstream servers {{ {servers} keepalive 256; keepalive_requests 100000000; }}
             server {{
               listen {listen} reuseport backlog=4096;
               location / {{
                 proxy_pass http://servers;
                 proxy_http_version 1.1;
                 proxy_set_header Connection \"\";
                 proxy_set_header Host $http_host;
                 proxy_set_header X-Forwarded-For $remote_addr;
                 proxy_set_header X-Forwarded-Proto $scheme;
                 proxy_set_header X-Forwarded-Host $http_host;
               }}
             }}"
    );
    nginx(folder, &http(folder, &proxy))
}

fn http(folder: &Path, text: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "http {{
           access_log off;
           keepalive_requests 100000000;
           {temporary}
           {text}
         }}"
    )
}

fn nginx(folder: &Path, protocol: &str) -> String {
    // As root, workers would change to a user that may not enter the folder.
    let user = if Uid::effective().is_root() { "user root;" } else { "" };
    let folder = folder.display();
    format!(
        "{user}
         daemon off;
         worker_processes {};
         pid {folder}/pid;
         error_log stderr crit;
         events {{ worker_connections 8192; }}
         {protocol}\n",
        workers()
    )
}

/// How HAProxy treats what it carries.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Http,
    Tcp,
}

/// HAProxy as a proxy.
pub(crate) fn haproxy(mode: Mode, listen: SocketAddr, servers: &[SocketAddr]) -> String {
    let (mode, rules) = match mode {
        Mode::Http => (
            "http",
            "http-reuse always
             http-request set-header X-Forwarded-For %[src]
             http-request set-header X-Forwarded-Proto http
             http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        ),
        // Bulk goes from socket to socket within the kernel.
        Mode::Tcp => ("tcp", "option splice-auto"),
    };
    let servers: String = (1..)
        .zip(servers)
        .map(|(number, address)| format!("server s{number} {address} check inter 5s\n"))
        .collect();
    format!(
        "global
           nbthread {}
           maxconn 4096
         defaults
           mode {mode}
           timeout connect 3s
           timeout client 60s
           timeout server 60s
         listen all
           bind {listen} backlog 4096
           balance roundrobin
           {rules}
           {servers}\n",
        workers()
    )
}
