//! The program from outside: exit codes, messages, signals.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A loopback address that no other test has, so that its ports are free.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A configuration file, gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("deston-cli-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn write(&self, text: &str) {
        // In one step, as an editor does it.
        let aside = self.0.with_extension("new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn deston() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deston"));
    command.env_remove("DESTON_LOG");
    command
}

fn check(text: &str, name: &str, more: &[&str]) -> Output {
    let file = File::new(name, text);
    deston().arg("check").arg("--config").arg(&file.0).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running program; killed when dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(file: &File) -> Self {
        let mut command = deston();
        command.arg("run").arg("--config").arg(&file.0).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log up to a line with this text.
    fn wait_for(&mut self, wanted: &str) -> String {
        let mut log = String::new();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).unwrap();
            assert!(length > 0, "the program ended without {wanted:?}:\n{log}");
            if line.contains(wanted) {
                return line;
            }
            log += &line;
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that greets every client.
fn greeter(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Health checks close before they are greeted.
            let _ = stream.unwrap().write_all(word.as_bytes());
        }
    });
    address
}

fn greeting(address: SocketAddr) -> String {
    let mut greeting = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut greeting).unwrap();
    greeting
}

fn configuration(listen: SocketAddr, server: SocketAddr) -> String {
    format!(
        "[load_balancer]\naddress = \"{}\"\nport = {}\ndatapath = \"userspace\"\n\
         [[server]]\naddress = \"{}\"\nport = {}\n",
        listen.ip(),
        listen.port(),
        server.ip(),
        server.port()
    )
}

#[test]
fn check_tells_what_a_forwarding_lacks_after_saying_that_the_file_is_valid() {
    let listener = |forwarding: &str| {
        format!(
            "[load_balancer]\naddress = \"192.0.2.1\"\nport = 80\nforwarding = \"{forwarding}\"\n\
             [[server]]\naddress = \"198.51.100.1\"\nport = 80"
        )
    };
    for (forwarding, note) in [
        ("dnat", "note: listener default: with `dnat` servers see the client's address"),
        ("dsr-l2", "note: listener default: with `dsr-l2` no replies are seen"),
        ("dsr-ipip", "note: listener default: with `dsr-ipip` no replies are seen"),
    ] {
        let output = check(&listener(forwarding), forwarding, &[]);
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(output.status.code(), Some(0));
        assert!(lines[0].ends_with("valid: 1 listener, 1 pool, 1 server"), "{said}");
        assert!(lines[1].starts_with(note), "{said}");
    }
}

#[test]
fn check_says_what_is_in_a_valid_file() {
    let output = check("[[server]]", "valid", &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).ends_with(": valid: 1 listener, 1 pool, 1 server\n"));
}

#[test]
fn check_says_whether_root_is_needed() {
    let needs = |line: &str, name: &str| {
        let output = check(&format!("[load_balancer]\n{line}\n[[server]]"), name, &["--needs"]);
        text(&output.stdout)
    };
    assert_eq!(needs("datapath = \"tc\"", "needs-root"), "root\n");
    assert_eq!(needs("datapath = \"auto\"", "needs-user"), "user\n");
}

#[test]
fn an_invalid_file_is_exit_code_2_and_every_error_is_shown() {
    let output = check("[load_balancer]\nadress = 1\nport = 70000\n[[server]]", "invalid", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let errors = text(&output.stderr);
    assert!(errors.contains("error: unknown key `adress`, did you mean `address`?"), "{errors}");
    assert!(errors.contains("error: `port` must be"), "{errors}");
}

#[test]
fn running_an_invalid_file_starts_nothing() {
    let file = File::new("run-invalid", "[[server]]\nport = 0");
    let output = deston().arg("--config").arg(&file.0).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("listening"));
}

#[test]
fn a_file_that_is_not_there_is_exit_code_2() {
    let output = deston().args(["check", "--config", "/no/such/file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read `/no/such/file`"));
}

#[test]
fn a_log_level_that_is_none_is_exit_code_2() {
    let output = deston().args(["--log-level", "deston=loud"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("invalid log level"));
}

#[test]
fn a_port_in_use_is_exit_code_1_and_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let server = SocketAddr::from(([192, 0, 2, 1], 80));
    let file = File::new("in-use", &configuration(address, server));
    let output = deston().arg("--config").arg(&file.0).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("{address}/tcp is in use by another process")), "{errors}");
    assert!(errors.contains("nothing was started"), "{errors}");
}

#[test]
fn it_serves_reloads_and_stops() {
    let listen = SocketAddr::from((own_address(), 8080));
    let (one, two) = (greeter("one"), greeter("two"));
    let file = File::new("serves", &configuration(listen, one));
    let mut deston = Running::start(&file);
    deston.wait_for("listening");
    assert_eq!(greeting(listen), "one");

    file.write("[load_balancer]\nadress = 1");
    deston.signal(Signal::SIGHUP);
    deston.wait_for("unknown key `adress`");
    deston.wait_for("nothing was changed");
    assert_eq!(greeting(listen), "one");

    file.write(&configuration(listen, two));
    deston.signal(Signal::SIGHUP);
    let line = deston.wait_for("reloaded");
    assert!(line.contains("servers=+1 ~0 -1"), "{line}");
    assert_eq!(greeting(listen), "two");

    deston.signal(Signal::SIGTERM);
    deston.wait_for("stopped");
    assert_eq!(deston.exit_code(), Some(0));
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let listen = SocketAddr::from((own_address(), 8080));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = greeter("one");
    let file = File::new("cannot-bind", &configuration(listen, server));
    let mut deston = Running::start(&file);
    deston.wait_for("listening");
    file.write(&configuration(taken.local_addr().unwrap(), server));
    deston.signal(Signal::SIGHUP);
    deston.wait_for("is in use by another process");
    deston.wait_for("nothing was changed");
    assert_eq!(greeting(listen), "one");
}

#[test]
fn the_first_signal_lets_connections_finish_and_the_second_does_not() {
    let listen = SocketAddr::from((own_address(), 8080));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::new("second", &configuration(listen, silent.local_addr().unwrap()));
    let mut deston = Running::start(&file);
    deston.wait_for("listening");
    let mut client = TcpStream::connect(listen).unwrap();
    client.write_all(b"hello").unwrap();
    let (mut server, _) = silent.accept().unwrap();
    let mut hello = [0; 5];
    server.read_exact(&mut hello).unwrap();

    deston.signal(Signal::SIGINT);
    deston.wait_for("stopping");
    server.write_all(b"still here").unwrap();
    let mut reply = [0; 10];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"still here");

    deston.signal(Signal::SIGINT);
    deston.wait_for("stopped at once");
    assert_eq!(deston.exit_code(), Some(130));
}

#[test]
fn detach_finds_nothing_of_an_instance_that_never_was() {
    for name in ["never-was", ".."] {
        let output = deston().args(["detach", "--instance", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        let told = text(&output.stderr);
        assert!(told.contains(&format!("`{name}`: nothing is there")), "{told}");
    }
    // The one of the configuration may be gone already.
    let output = deston().args(["detach", "--config", "/nonexistent.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("nothing is there"), "{}", text(&output.stdout));
    let file = File::new("detach", "[kernel]\ninstance = \"never-was\"\n[[server]]");
    let output = deston().args(["detach", "--config"]).arg(&file.0).output().unwrap();
    assert!(text(&output.stdout).contains("`never-was`"), "{}", text(&output.stdout));
    file.write("[kernel]\ninstance = 1");
    let output = deston().args(["detach", "--config"]).arg(&file.0).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--instance"), "{}", text(&output.stderr));
}

#[test]
fn logs_can_be_json() {
    let file = File::new("json", "[[server]]\nport = 0");
    let output = deston().args(["--log-format", "json", "--config"]).arg(&file.0).output().unwrap();
    let line = text(&output.stderr);
    assert!(line.starts_with("{\"timestamp\":\""), "{line}");
    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
}

/// Tells what becomes of a request, by a file with routes.
fn route_test(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let config = "[[listener]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\nlayer = \"L7\"\n\
        [[listener]]\nname = \"plain\"\naddress = \"192.0.2.1\"\nport = 8080\nlayer = \"L7\"\n\
        [[route]]\nlistener = \"web\"\nhost = \"old.example.com\"\n\
        redirect = { to = \"https://www.example.com$path\" }\n\
        [[route]]\nlistener = \"web\"\npath = \"/api/*\"\nheader = { X-Beta = \"1\" }\n\
        split = { app = 90, canary = 10 }\nrewrite = \"/$1\"\n\
        [[route]]\nlistener = \"web\"\npath = \"/gone\"\nrespond = { status = 410 }\n\
        [[route]]\nlistener = \"web\"\npath = \"/drained\"\npool = \"drained\"\n\
        [[pool]]\nname = \"app\"\nalgorithm = \"ip_hashing\"\n[[pool]]\nname = \"canary\"\n\
        [[pool]]\nname = \"drained\"\n\
        [[server]]\naddress = \"198.51.100.1\"\n\
        [[server]]\npool = \"app\"\nname = \"app1\"\naddress = \"198.51.100.2\"\n\
        [[server]]\npool = \"canary\"\naddress = \"198.51.100.3\"\n\
        [[server]]\npool = \"drained\"\naddress = \"198.51.100.4\"\ndrain = true\n";
    let file = File::new(name, config);
    let mut command = deston();
    command.args(["route", "test", "--config"]).arg(&file.0).args(arguments);
    let output = command.output().unwrap();
    let told = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), told)
}

#[test]
fn route_test_tells_each_route_it_meets_and_where_the_request_goes() {
    let url = "http://www.example.com/x/../api/v1/a?b=c";
    let (code, told) = route_test("route", &[url, "-H", "X-Beta: 1", "--client", "198.51.100.9"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "listener web (192.0.2.1:80): GET www.example.com/api/v1/a",
            "  the path is sent as /x/../api/v1/a",
            "route 1 (host old.example.com): passed over, the host is not old.example.com",
            "route 2 (path /api/*, header x-beta: 1): matches",
            "the server gets /v1/a?b=c",
            "pool app, the first turn of the split app 90, canary 10",
            "server app1 (198.51.100.2:3000): ip_hashing of client 198.51.100.9",
        ]
    );
    assert!(lines[7].contains("known to the running process"), "{told}");
    assert_eq!((code, lines.len()), (Some(0), 8));
}

#[test]
fn route_test_tells_of_redirects_answers_and_pools_that_cannot_serve() {
    let last = |name: &str, url: &str| {
        let (code, told) = route_test(name, &[url]);
        (code, told.lines().last().unwrap_or_default().to_owned())
    };
    assert_eq!(
        last("redirect", "http://Old.example.com/a%20b?c"),
        (Some(0), "redirect: 308 Permanent Redirect to https://www.example.com/a%20b?c".to_owned())
    );
    assert_eq!(last("gone", "http://a/gone"), (Some(1), "respond: 410 Gone, 0 bytes".to_owned()));
    assert_eq!(
        last("drained", "http://a/drained"),
        (Some(1), "no server: all of them drain; 503".to_owned())
    );
}

#[test]
fn route_test_without_a_match_answers_with_the_listeners_pool() {
    let (code, told) = route_test("unmatched", &["http://a/", "-X", "POST"]);
    assert!(told.contains("no route matches: pool default, the listener's"), "{told}");
    assert!(told.contains("server 198.51.100.1:3000: the first turn of round_robin"), "{told}");
    assert_eq!(code, Some(0));
    let (code, told) = route_test("routeless", &["http://a:8080/"]);
    assert!(told.contains("no routes: pool default, the listener's"), "{told}");
    assert_eq!(code, Some(0));
}

#[test]
fn route_test_takes_the_host_of_a_field_before_that_of_the_url() {
    let (_, told) = route_test("host", &["http://a/", "-H", "Host: old.example.com:80"]);
    assert!(told.contains("to https://www.example.com/"), "{told}");
}

#[test]
fn route_test_of_what_cannot_be_asked_is_exit_code_2() {
    for (name, arguments, expected) in [
        ("scheme", &["ftp://a/"][..], "http://"),
        ("port", &["http://a:99/"], "no layer 7 listener has port 99"),
        ("name", &["http://a/", "--listener", "x"], "no layer 7 listener is called x"),
        ("field", &["http://a/", "-H", "X"], "Name: value"),
        ("method", &["http://a/", "-X", "TRACE"], "405"),
        ("nothing", &[], "URL"),
    ] {
        let (code, told) = route_test(&format!("usage-{name}"), arguments);
        assert!(told.contains(expected), "{name}: {told}");
        assert_eq!(code, Some(2), "{name}");
    }
}

/// One GET on a connection that stays open; the body.
fn get(stream: &mut BufReader<TcpStream>) -> String {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: spec\r\n\r\n").unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    text(&body)
}

#[test]
fn routes_are_reloaded_under_a_connection_that_stays_open() {
    let listen = SocketAddr::from((own_address(), 8080));
    let server = greeter("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nserver");
    let base = configuration(listen, server).replace("[[server]]", "layer = \"L7\"\n[[server]]");
    let routed =
        |word: &str| format!("{base}[[route]]\npath = \"/\"\nrespond = {{ body = \"{word}\" }}\n");
    let file = File::new("routes", &routed("one"));
    let mut deston = Running::start(&file);
    deston.wait_for("listening");
    let mut client = BufReader::new(TcpStream::connect(listen).unwrap());
    assert_eq!(get(&mut client), "one");

    file.write(&routed("two"));
    deston.signal(Signal::SIGHUP);
    let line = deston.wait_for("reloaded");
    assert!(line.contains("listeners=+0 ~1 -0"), "{line}");
    assert_eq!(get(&mut client), "two");
}

#[test]
fn requests_are_logged_on_standard_output_and_the_last_ones_at_the_stop() {
    let own = own_address();
    let (listen, nobody) = (SocketAddr::from((own, 8080)), SocketAddr::from((own, 1)));
    let text = configuration(listen, nobody).replace("[[server]]", "layer = \"L7\"\n[[server]]");
    let file = File::new("access", &format!("{text}[log]\naccess = \"json\"\n"));
    let mut command = deston();
    command.arg("run").arg("--config").arg(&file.0).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut deston = Running { child, log };
    deston.wait_for("listening");
    let ask = |path: &str| {
        let mut client = TcpStream::connect(listen).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    };
    ask("/one");
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    for part in ["\"path\":\"/one\"", "\"status\":502", "\"reason\":\"connect\""] {
        assert!(line.contains(part), "{line}");
    }
    ask("/two");
    deston.signal(Signal::SIGTERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"path\":\"/two\"") && rest.lines().count() == 1, "{rest}");
    assert_eq!(deston.exit_code(), Some(0));
}
