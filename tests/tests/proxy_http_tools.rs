//! HTTP as users' own tools speak it: curl, nghttp, h2load, testssl.sh.

use std::path::Path;

use deston_tests::http::{Authority, Lab, Message, Server, Setup};
use deston_tests::tools::{Scratch, run, text, tool};

/// What every curl is told: no proxy of the environment, an answer within a while, its status and
/// version last.
const CURL: &[&str] =
    &["-sS", "--noproxy", "*", "--max-time", "20", "-w", "\n%{http_code} %{http_version}"];

fn echo(request: &Message) -> String {
    let body = format!("{}\n{}", request.start(), request.text());
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn curl(arguments: &[&str]) -> String {
    tool("curl", &[CURL, arguments].concat()).await
}

async fn in_clear() -> (Lab, String) {
    let server = Server::start().await.answering(echo);
    let lab = Setup::default().start(&[server.address]);
    let url = format!("http://{}/x?y", lab.address);
    // The server answers for as long as the test's runtime is there.
    std::mem::forget(server);
    (lab, url)
}

#[tokio::test]
async fn curl_is_answered_by_http_1_1_and_by_http_2_in_clear() {
    let (_lab, url) = in_clear().await;
    let head = "GET /x?y HTTP/1.1\n\n200";
    assert_eq!(curl(&["--http1.1", &url]).await, format!("{head} 1.1"));
    assert_eq!(curl(&["--http2-prior-knowledge", &url]).await, format!("{head} 2"));
    // Asking by Upgrade is not answered by one (RFC 9113 has dropped it).
    assert_eq!(curl(&["--http2", &url]).await, format!("{head} 1.1"));
    assert_eq!(curl(&["--http1.0", &url]).await, format!("{head} 1"));
}

#[tokio::test]
async fn curl_uploads_with_and_without_asking_first() {
    let (_lab, url) = in_clear().await;
    let scratch = Scratch::default();
    let large = "x".repeat(2_000_000);
    let file = format!("@{}", scratch.write("large", &large));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for expect in ["Expect: 100-continue", "Expect:"] {
            let chunked = ["-H", "Transfer-Encoding: chunked"];
            for more in [&[][..], &chunked] {
                if version != "--http1.1" && !more.is_empty() {
                    continue;
                }
                let told = ["-X", "POST", "--data-binary", &file, "-H", expect, version];
                let answer = curl(&[&told[..], more, &[&url]].concat()).await;
                let expected = format!("POST /x?y HTTP/1.1\n{large}\n200");
                assert!(answer.starts_with(&expected), "{version} {expect} {more:?}");
            }
        }
    }
}

#[tokio::test]
async fn curl_asks_for_a_head_and_for_options() {
    let (_lab, url) = in_clear().await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&["-I", version, &url]).await;
        assert!(answer.contains("200") && answer.contains("content-length: "), "{answer}");
        let target = ["-X", "OPTIONS", "--request-target", "*"];
        let answer = curl(&[&target[..], &[version, &url]].concat()).await;
        assert!(answer.starts_with("OPTIONS * HTTP/1.1\n"), "{version}: {answer}");
    }
}

/// A listener under TLS for localhost, and the file that has its authority.
async fn under_tls(scratch: &Scratch) -> (Lab, String) {
    let server = Server::start().await.answering(echo);
    let authority = Authority::new();
    let tls = authority.serve(&[&["localhost", "127.0.0.1"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    std::mem::forget(server);
    (lab, scratch.write("ca.pem", authority.root_pem()))
}

#[tokio::test]
async fn curl_is_answered_under_tls_by_the_version_it_asks_for() {
    let scratch = Scratch::default();
    let (lab, ca) = under_tls(&scratch).await;
    let url = format!("https://localhost:{}/", lab.address.port());
    let v4 = ["--ipv4", "--cacert", &ca];
    for (asked, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let answer = curl(&[&v4, tls, &[asked, &url]].concat()).await;
            assert_eq!(answer, format!("GET / HTTP/1.1\n\n200 {version}"), "{tls:?}");
        }
        let other = curl(&[&v4[..], &[asked, "-H", "Host: other.example", &url]].concat()).await;
        assert!(other.ends_with(&format!("421 {version}")), "{other}");
    }
    let refused = run("curl", &[CURL, &v4, &["--tls-max", "1.1", &url]].concat()).await;
    assert!(!refused.status.success(), "{}", text(&refused));
}

#[tokio::test]
async fn nghttp_is_answered_with_its_trailers_and_priorities() {
    let (_lab, url) = in_clear().await;
    let scratch = Scratch::default();
    let data = scratch.write("data", "hello");
    let seen = tool("nghttp", &["-v", "-d", &data, "--trailer", "x-sum: 7", &url]).await;
    assert!(seen.contains(":status: 200"), "{seen}");
    assert!(seen.contains("POST /x?y HTTP/1.1\nhello"), "{seen}");
}

#[tokio::test]
async fn h2load_has_every_request_answered() {
    let (_lab, url) = in_clear().await;
    let seen = tool("h2load", &["-n", "2000", "-c", "10", "-m", "50", &url]).await;
    assert!(seen.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{seen}");
    let scratch = Scratch::default();
    let (lab, _) = under_tls(&scratch).await;
    let url = format!("https://localhost:{}/", lab.address.port());
    let seen = tool("h2load", &["-n", "2000", "-c", "10", "-m", "50", &url]).await;
    assert!(seen.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{seen}");
    assert!(seen.contains("Application protocol: h2"), "{seen}");
}

/// Findings that are of the test's certificate and site, or of the machine, and not of the listener.
const NOT_OURS: [&str; 7] = [
    "DNS_CAArecord",
    "HSTS",
    "cert_revocation",
    "engine_problem",
    "security_headers",
    "cert_expirationStatus",
    "cert_validityPeriod",
];

#[tokio::test]
async fn testssl_finds_nothing_wrong_with_the_defaults() {
    let scratch = Scratch::default();
    let (lab, ca) = under_tls(&scratch).await;
    let place = format!("localhost:{}", lab.address.port());
    let report = scratch.path().join("report.csv").display().to_string();
    let told = ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"];
    let files = ["--add-ca", &ca, "--csvfile", &report];
    // Its exit status counts findings.
    let output = run("testssl", &[&told[..], &files, &[&place]].concat()).await;
    let report = std::fs::read_to_string(Path::new(&report)).unwrap_or_default();
    let findings: Vec<&str> = report.lines().skip(1).collect();
    assert!(findings.len() > 100, "{} findings: {}", findings.len(), text(&output));
    // WARN is what it could not look at, which depends on its openssl and on the machine's load.
    let fine = ["\"OK\"", "\"INFO\"", "\"DEBUG\"", "\"WARN\""];
    let wrong: Vec<&&str> = findings
        .iter()
        .filter(|finding| !fine.iter().any(|fine| finding.contains(fine)))
        .filter(|finding| !NOT_OURS.iter().any(|id| finding.starts_with(&format!("\"{id}"))))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
