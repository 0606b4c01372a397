//! A node of Kafka: a java process with a folder for its configuration, data and log, and ports on loopback.
//!
//! In:    java, and the jars that `scripts/kafka.py` fetches (or those in the folder that EMBEDMILL_KAFKA_LIBS names).
//! Fails: a node that does not start panics, with the first error and the end of its log.
//!
//! A node never outlives the process that started it, however that one ends: see `LAUNCH`.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::hash::BuildHasher;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A start takes 3 to 6 s; on a machine that builds at the same time it may take several times as long.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// Enough for the first error with its stack, and as much again of the log's end.
const EXCERPT_LINES: usize = 25;
/// Linux gives outgoing connections ports from 32768 on, macOS from 49152. A broker's ports must lie below: while it is
/// down, a client that keeps on knocking would sooner or later be given the broker's own port, and the restart fail.
const PORTS: Range<u16> = 15_000..32_000;

/// What every JVM gets. The small compiler and collector halve the time to start, and nothing is left in the system's
/// temporary folder when the process is killed.
pub const JVM: [&str; 4] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData"];

/// Becomes java, after it has left a watchdog behind. The watchdog reads from a pipe that this process holds open. A
/// line sends it away; the pipe's end, which comes when this process dies of whatever cause, makes it kill java and
/// remove the folder $1, unless it is to be kept. The pause lets java be gone before its folder is.
const LAUNCH: &str = r#"
exec 3<&0 0</dev/null
folder=$1
shift
{ read -r _ <&3 || { kill -KILL $$; sleep 1; test -n "$EMBEDMILL_KAFKA_KEEP" || rm -rf -- "$folder"; }; } &
exec "$@" 3<&-
"#;

pub struct Node {
    /// What goes when the tests die: the folder of the cluster.
    cluster_folder: PathBuf,
    folder: PathBuf,
    ports: Vec<u16>,
    java: Option<Child>,
}

impl Node {
    /// In `cluster_folder`, under `name`; not started.
    pub fn new(cluster_folder: &Path, name: &str, properties: &str, ports: Vec<u16>) -> Node {
        let folder = cluster_folder.join(name);
        fs::create_dir_all(folder.join("tmp")).expect("the temporary folder takes a node's data");
        fs::write(folder.join("server.properties"), properties).expect("the folder was just made");
        Node { cluster_folder: cluster_folder.into(), folder, ports, java: None }
    }

    /// Writes the cluster's identity and the first metadata.
    pub fn format(&self, arguments: &[String]) {
        let mut command = Command::new(java_tool("java"));
        command.args(JVM).arg("-cp").arg(libs().join("*")).args(["kafka.tools.StorageTool", "format"]);
        finish(command.args(["--config", "server.properties"]).args(arguments).current_dir(&self.folder));
    }

    /// SIGKILL: the node has no time to say goodbye to anybody, or to close its files.
    pub fn kill(&mut self) {
        let Some(mut java) = self.java.take() else { return };
        // Both can only fail if java or its watchdog is already gone. The order matters: this process may die between
        // the two, and the watchdog must then still be there.
        let _ = java.kill();
        if let Some(mut watchdog) = java.stdin.take() {
            let _ = watchdog.write_all(b"\n");
        }
        let _ = java.wait();
    }

    /// Starts on its ports and data, anew after `kill`, and waits until it answers.
    pub fn start(&mut self) {
        let log_path = self.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&log_path).expect("the log can be written");
        let log_start = log.metadata().expect("the log is open").len() as usize;
        let mut command = Command::new("sh");
        command.args(["-c", LAUNCH, "sh"]).arg(&self.cluster_folder);
        command.arg(java_tool("java")).args(JVM).arg("-Xmx512m");
        command.arg(format!("-Djava.io.tmpdir={}", self.folder.join("tmp").display()));
        command.arg("-Dorg.slf4j.simpleLogger.showDateTime=true");
        command.arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS");
        command.arg("-cp").arg(libs().join("*")).arg("kafka.Kafka").arg("server.properties");
        command.current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("the log is open")).stderr(log);
        // In a group of its own, a Ctrl-C meant for the tests does not reach the watchdog.
        command.process_group(0);
        self.java = Some(command.spawn().expect("a POSIX system has a shell"));
        self.wait_for("Kafka Server started", log_start);
        while !self.ports.iter().all(|port| answers(*port)) {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until the node's log says so, behind its first `log_start` bytes.
    pub fn wait_for(&mut self, words: &str, log_start: usize) {
        let started = Instant::now();
        loop {
            let log = fs::read(self.log_path()).expect("the log is there");
            let log = String::from_utf8_lossy(&log[log_start..]);
            if log.contains(words) {
                return;
            }
            let java = self.java.as_mut().expect("java was started");
            let problem = match java.try_wait().expect("java is a child of this process") {
                Some(status) => format!("the node ended with {status}"),
                None if started.elapsed() > START_LIMIT => format!("the node did not log `{words}` in {START_LIMIT:?}"),
                None => {
                    thread::sleep(POLL_INTERVAL);
                    continue;
                }
            };
            panic!("{problem}. Its log:\n{}", excerpt(&log));
        }
    }

    pub fn log_bytes(&self) -> usize {
        fs::metadata(self.log_path()).map_or(0, |log| log.len() as usize)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("node.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the broker's jars; the first call may fetch them.
fn libs() -> &'static Path {
    static LIBS: OnceLock<PathBuf> = OnceLock::new();
    LIBS.get_or_init(|| {
        if let Some(own) = std::env::var_os("EMBEDMILL_KAFKA_LIBS") {
            return own.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join("kafka.py");
        let printed = finish(Command::new("python3").arg(script).args(["--print", "libs"]));
        PathBuf::from(printed.trim_end())
    })
}

/// As for Maven, JAVA_HOME goes before PATH.
pub fn java_tool(name: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Path::new(&home).join("bin").join(name),
        None => name.into(),
    }
}

/// What the command wrote to standard output; a panic with all that it wrote where it failed.
pub fn finish(command: &mut Command) -> String {
    let name = command.get_program().display().to_string();
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    let written = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let arguments: Vec<&OsStr> = command.get_args().collect();
        let errors = String::from_utf8_lossy(&done.stderr);
        panic!("{name} {arguments:?} ended with {}:\n{written}{errors}", done.status);
    }
    written
}

/// Ports that nobody listens on. Each is handed out once in this process, for between this look and the broker's start
/// there is time for another test to look; and processes begin in different places.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(()) as u16));
    let candidates = std::iter::repeat_with(|| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = candidates.take(PORTS.len()).filter(free).take(count).collect();
    assert_eq!(ports.len(), count, "too few of the ports {PORTS:?} are free");
    ports
}

/// The first error and the end of a log: a broker that fails writes hundreds of lines about its shutdown after it.
fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let tail_start = lines.len().saturating_sub(EXCERPT_LINES);
    let mut shown = Vec::new();
    if let Some(error) = lines[..tail_start].iter().position(|line| line.contains(" ERROR ")) {
        shown.extend(&lines[error..tail_start.min(error + EXCERPT_LINES)]);
        shown.push("[...]");
    }
    shown.extend(&lines[tail_start..]);
    shown.join("\n")
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}
