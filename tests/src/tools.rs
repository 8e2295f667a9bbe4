//! Programs of other projects, run as users run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs a program to its end while the test's own servers go on; gives what it printed, its errors
/// included.
pub async fn tool(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments).await;
    let text = text(&output);
    assert!(output.status.success(), "{name} {arguments:?} ended with {}: {text}", output.status);
    text
}

/// As `tool`, of a program that may fail.
pub async fn run(name: &str, arguments: &[&str]) -> Output {
    let name = name.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        Command::new(&name).args(&arguments).output().unwrap_or_else(|error| {
            panic!("{name} cannot be run ({error}); .ci/run has the list of what specs need")
        })
    });
    running.await.expect("the program's thread")
}

/// Everything that was printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A directory for files of one test, gone with it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("deston-{}-scratch{unique}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file; gives its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("{name}: {error}"));
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed has said so already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
