//! Model ids resolved against a local server that speaks the hub's protocol: responses about a model, ranges, entity
//! tags, redirects of large files to another host, tokens, and connections that break.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use embedmill::internal::digest::{hex, sha256_file};
use embedmill::internal::model::hub::{DownloadProgress, HubError, HubSettings, ModelFolder, Secret, resolve};
use serde_json::json;

const ID: &str = "acme/tiny";
const MAIN: &str = "1111111111111111111111111111111111111111";
const OLDER: &str = "2222222222222222222222222222222222222222";
const TOKEN: &str = "hf_secret";
/// Larger than a socket's buffers, so that a connection can break in the middle of it.
const WEIGHTS_BYTES: usize = 3 << 20;

/// What the server has and how it misbehaves.
#[derive(Default)]
struct Hub {
    /// Revision (branch or commit) → commit.
    revisions: HashMap<String, String>,
    /// Commit → files.
    files: HashMap<String, Vec<(String, Vec<u8>)>>,
    token: Option<&'static str>,
    /// How many more downloads of large files break off half-way.
    breaks: AtomicUsize,
    /// Large files come with a bit flipped.
    damages: AtomicBool,
    /// "METHOD path range authorization" of every request.
    requests: Mutex<Vec<String>>,
    address: Mutex<String>,
}

struct Server {
    hub: Arc<Hub>,
    endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(hub: Hub) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        *hub.address.lock().expect("one thread") = address.clone();
        let (hub, stop) = (Arc::new(hub), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (hub.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).take_while(|_| !stopped.load(SeqCst)) {
                let hub = shared.clone();
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || drop(hub.answer(&stream)));
            }
        });
        Server { hub, endpoint: format!("http://{address}"), stop, thread: Some(thread) }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.hub.requests.lock().expect("no panic"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        drop(TcpStream::connect(self.endpoint.trim_start_matches("http://")));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Hub {
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut headers = HashMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorization = header("authorization");
        self.requests.lock().expect("no panic").push(format!("{path} {} {authorization}", header("range")));

        let parts: Vec<&str> = path.split('?').next().unwrap_or_default().trim_start_matches('/').split('/').collect();
        if parts[0] != "cdn" && self.token.is_some_and(|token| authorization != format!("Bearer {token}")) {
            return respond(stream, "401 Unauthorized", &[], b"{\"error\":\"Invalid username or password.\"}");
        }
        match parts[..] {
            ["api", "models", organisation, name, "revision", revision] => {
                let commit = self.revisions.get(revision).filter(|_| format!("{organisation}/{name}") == ID);
                match commit {
                    Some(commit) => respond(stream, "200 OK", &[], self.info(commit).as_bytes()),
                    None => respond(stream, "404 Not Found", &[], b"{\"error\":\"Repository not found\"}"),
                }
            }
            [_, _, "resolve", commit, ..] => {
                let name = parts[4..].join("/");
                match self.file(commit, &name) {
                    None => respond(stream, "404 Not Found", &[], b"Entry not found"),
                    Some(content) if is_large(&name) => {
                        let port =
                            self.address.lock().expect("no panic").rsplit(':').next().unwrap_or_default().to_owned();
                        let location = format!("http://localhost:{port}/cdn/{commit}/{name}");
                        let tag = format!("\"{}\"", hash(&content));
                        let linked = [("Location", location), ("X-Linked-Etag", tag), ("ETag", "\"not this\"".into())];
                        respond(stream, "302 Found", &[&linked[..], &[("X-Repo-Commit", commit.into())]].concat(), b"")
                    }
                    Some(content) => self.send(stream, commit, &name, &content, &header("range")),
                }
            }
            ["cdn", commit, ..] => {
                let name = parts[2..].join("/");
                let mut content = self.file(commit, &name).unwrap_or_default();
                if self.damages.load(SeqCst) {
                    content[WEIGHTS_BYTES / 2] ^= 1;
                }
                let whole = header("range") != "bytes=0-0";
                if whole && self.breaks.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    let start = range(&header("range"), content.len()).0;
                    write!(
                        stream,
                        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\r\n",
                        content.len() - start
                    )?;
                    return stream.write_all(&content[start..start + (content.len() - start) / 2]);
                }
                self.send(stream, commit, &name, &content, &header("range"))
            }
            _ => respond(stream, "404 Not Found", &[], b""),
        }
    }

    fn file(&self, commit: &str, name: &str) -> Option<Vec<u8>> {
        let files = self.files.get(commit)?;
        files.iter().find(|(known, _)| known == name).map(|(_, content)| content.clone())
    }

    fn info(&self, commit: &str) -> String {
        let siblings = self.files[commit].iter().map(|(name, content)| {
            let mut file = json!({"rfilename": name, "size": content.len(), "blobId": hash(name.as_bytes())});
            if is_large(name) {
                file["lfs"] = json!({"sha256": hash(content), "size": content.len(), "pointerSize": 134});
            }
            file
        });
        json!({"id": ID, "sha": commit, "siblings": siblings.collect::<Vec<_>>()}).to_string()
    }

    fn send(&self, stream: &TcpStream, commit: &str, name: &str, content: &[u8], asked: &str) -> std::io::Result<()> {
        let (start, end) = range(asked, content.len());
        let headers = [
            ("ETag", format!("\"{}\"", hash(name.as_bytes()))),
            ("X-Repo-Commit", commit.to_owned()),
            ("Accept-Ranges", "bytes".to_owned()),
            ("Content-Range", format!("bytes {start}-{}/{}", end.saturating_sub(1), content.len())),
        ];
        respond(stream, "206 Partial Content", &headers, &content[start..end])
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".onnx")
}

/// First byte and end of `bytes=a-` or `bytes=a-b`.
fn range(asked: &str, length: usize) -> (usize, usize) {
    let (start, end) = asked.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", ""));
    let end = end.parse::<usize>().map_or(length, |last| (last + 1).min(length));
    (start.parse::<usize>().unwrap_or(0).min(end), end)
}

fn respond(mut stream: &TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}

fn hash(content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), content).expect("it is written");
    hex(&sha256_file(file.path()).expect("it is read"))
}

fn weights(seed: u8) -> Vec<u8> {
    (0..WEIGHTS_BYTES).map(|index| (index as u8).wrapping_mul(31) ^ (index >> 8) as u8 ^ seed).collect()
}

fn modules() -> String {
    json!([
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "", "type": "sentence_transformers.models.Normalize"}
    ])
    .to_string()
}

/// A model as the hub has them: with much that embedmill does not need.
fn files(seed: u8) -> Vec<(String, Vec<u8>)> {
    let text = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
    vec![
        text(".gitattributes", "*"),
        text("README.md", "a model"),
        text("modules.json", &modules()),
        text("config.json", &format!("{{\"seed\": {seed}}}")),
        text("tokenizer.json", "{}"),
        text("tokenizer_config.json", "{}"),
        text("1_Pooling/config.json", "{}"),
        text("vocab.txt", "a"),
        ("model.safetensors".into(), weights(seed)),
        ("pytorch_model.bin".into(), weights(seed)),
        ("onnx/model.onnx".into(), weights(seed)),
    ]
}

fn hub() -> Hub {
    let revisions = [("main", MAIN), (MAIN, MAIN), ("older/one", OLDER), (OLDER, OLDER)];
    let revisions = revisions.map(|(name, commit)| (name.replace('/', "%2F"), commit.to_owned()));
    let files = [(MAIN.to_owned(), files(1)), (OLDER.to_owned(), files(2))];
    Hub { revisions: revisions.into(), files: files.into(), ..Hub::default() }
}

/// Replaces or removes a file of the main commit.
fn replace(hub: &mut Hub, name: &str, content: Option<&str>) {
    let files = hub.files.get_mut(MAIN).expect("it is there");
    files.retain(|(known, _)| known != name);
    files.extend(content.map(|content| (name.to_owned(), content.as_bytes().to_vec())));
}

struct Client {
    folder: tempfile::TempDir,
    settings: HubSettings,
}

impl Client {
    fn of(endpoint: &str) -> Client {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = folder.path().join("hub");
        Client { folder, settings: HubSettings { endpoint: endpoint.into(), token: None, cache, offline: false } }
    }

    fn resolve(&self, revision: &str) -> Result<ModelFolder, HubError> {
        resolve(ID, revision, &self.settings, &())
    }

    fn error(&self, revision: &str) -> String {
        let error = self.resolve(revision).expect_err("it cannot be resolved").to_string();
        error.replace(&self.settings.endpoint, "HUB").replace(&self.folder.path().display().to_string(), "TMP")
    }
}

/// All files under a folder, relative to it, sorted.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(parent) = open.pop() {
        for entry in std::fs::read_dir(folder.join(&parent)).expect("a folder").flatten() {
            let path = parent.join(entry.file_name());
            if folder.join(&path).is_dir() { open.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    found.sort();
    found
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, u64, u64)>>);

impl DownloadProgress for Seen {
    fn update(&self, file: &str, done: u64, total: u64) {
        self.0.lock().expect("one thread").push((file.into(), done, total));
    }
}

#[test]
fn only_what_is_needed_is_fetched_once_and_is_there_without_the_server() {
    let server = Server::start(hub());
    let mut client = Client::of(&server.endpoint);
    let seen = Seen::default();
    let found = resolve(ID, "main", &client.settings, &seen).expect("it is fetched");
    assert_eq!((found.id.as_str(), found.revision.as_deref()), (ID, Some(MAIN)));
    let needed = [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(listing(&found.path), needed);
    assert!(std::fs::read(found.path.join("model.safetensors")).expect("weights") == weights(1));
    let seen = seen.0.into_inner().expect("one thread");
    let (file, done, total) = seen.last().expect("it was told");
    assert_eq!((file.as_str(), done), ("model.safetensors", total));
    assert!(*total > WEIGHTS_BYTES as u64 && seen.is_sorted_by_key(|(_, done, _)| *done));
    assert!(server.requests().iter().all(|request| !request.contains(".bin") && !request.contains("onnx")));

    assert_eq!(client.resolve("main").expect("it is there"), found);
    assert_eq!(server.requests(), [format!("/api/models/{ID}/revision/main?blobs=true  ")]);

    drop(server);
    assert_eq!(client.resolve("main").expect("the cache is used when the hub is away"), found);
    client.settings.offline = true;
    assert_eq!(client.resolve("main").expect("offline"), found);
    assert_eq!(client.resolve(MAIN).expect("offline, by commit"), found);
    let missing = client.error("other");
    let expected = "TMP/hub: model \"acme/tiny\" is not in the cache: no revision \"other\" in TMP/hub/models--acme--tiny; expected a \
                    complete snapshot, since the network is disabled (run once without model.offline and HF_HUB_OFFLINE, or give \
                    a folder)";
    assert_eq!(missing, expected);
}

#[test]
fn a_folder_is_used_as_it_is() {
    let client = Client::of("http://127.0.0.1:1");
    let path = client.folder.path().display().to_string();
    let found = resolve(&path, "main", &client.settings, &()).expect("it is a folder");
    assert_eq!(found, ModelFolder { path: path.clone().into(), id: path, revision: None });
}

#[test]
fn a_revision_is_a_branch_or_a_commit() {
    let server = Server::start(hub());
    let client = Client::of(&server.endpoint);
    for revision in ["older/one", OLDER] {
        let found = client.resolve(revision).expect("it is fetched");
        assert_eq!(found.revision.as_deref(), Some(OLDER));
        assert!(std::fs::read(found.path.join("model.safetensors")).expect("weights") == weights(2));
    }
    assert_eq!(client.resolve("main").expect("it is fetched").revision.as_deref(), Some(MAIN));
    let unknown = client.error("never");
    let expected = "HUB: model \"acme/tiny\" with revision \"never\" not found; expected an existing model and revision (check both \
                    names; a folder is given by its path)";
    assert_eq!(unknown, expected);
}

#[test]
fn a_token_is_used_where_it_is_demanded_and_never_shown() {
    let server = Server::start(Hub { token: Some(TOKEN), ..hub() });
    let mut client = Client::of(&server.endpoint);
    assert_eq!(
        client.error("main"),
        "HUB: access to model \"acme/tiny\" denied without a token (check the name; for a private or gated model, set HF_TOKEN)"
    );
    client.settings.token = Some(Secret::new("hf_wrong"));
    let refused = client.error("main");
    assert_eq!(
        refused,
        "HUB: access to model \"acme/tiny\" denied with this token (check HF_TOKEN, and whether the model's terms were accepted)"
    );
    client.settings.token = Some(Secret::new(TOKEN));
    client.resolve("main").expect("the token is right");
    assert!(!format!("{:?}", client.settings).contains(TOKEN));
    let elsewhere =
        server.requests().into_iter().filter(|request| request.starts_with("/cdn") && !request.contains("bytes=0-0"));
    assert!(elsewhere.filter(|request| request.contains(TOKEN)).count() == 0, "the token does not follow a redirect");
}

#[test]
fn a_download_that_breaks_is_continued() {
    let server = Server::start(Hub { breaks: 1.into(), ..hub() });
    let client = Client::of(&server.endpoint);
    let found = client.resolve("main").expect("it is continued at once");
    assert!(std::fs::read(found.path.join("model.safetensors")).expect("weights") == weights(1));
    let half = format!(" bytes={}- ", WEIGHTS_BYTES / 2);
    assert!(server.requests().iter().any(|request| request.starts_with("/cdn") && request.contains(&half)));

    let client = Client::of(&server.endpoint);
    server.hub.breaks.store(100, SeqCst);
    let broken = client.error("main");
    assert!(broken.starts_with("HUB: cannot be reached: "), "{broken}");
    let offline = Client { settings: HubSettings { offline: true, ..client.settings.clone() }, ..client };
    assert!(offline.resolve("main").is_err(), "half a model is none");
    let again = Client { settings: HubSettings { offline: false, ..offline.settings.clone() }, ..offline };
    server.hub.breaks.store(0, SeqCst);
    server.requests();
    let found = again.resolve("main").expect("the next run continues");
    assert!(std::fs::read(found.path.join("model.safetensors")).expect("weights") == weights(1));
    assert!(!server.requests().iter().any(|request| request.starts_with("/cdn") && request.contains(" bytes=0- ")));
}

#[test]
fn damaged_weights_are_not_kept() {
    let server = Server::start(Hub { damages: true.into(), ..hub() });
    let client = Client::of(&server.endpoint);
    assert_eq!(
        client.error("main"),
        "acme/tiny: model.safetensors: corrupt download, twice: its SHA-256 differs from the hub's (try again, or check the mirror)"
    );
    server.hub.damages.store(false, SeqCst);
    let found = client.resolve("main").expect("it is fetched anew");
    assert!(std::fs::read(found.path.join("model.safetensors")).expect("weights") == weights(1));
}

#[test]
fn shards_are_found_by_their_index() {
    let mut hub = hub();
    replace(&mut hub, "model.safetensors", None);
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).to_string();
    replace(&mut hub, "model.safetensors.index.json", Some(&index));
    for name in ["model-1.safetensors", "model-2.safetensors", "model-3.safetensors"] {
        replace(&mut hub, name, Some(name));
    }
    let server = Server::start(hub);
    let client = Client::of(&server.endpoint);
    let found = client.resolve("main").expect("it is fetched");
    let shards: Vec<String> = listing(&found.path).into_iter().filter(|name| name.starts_with("model")).collect();
    assert_eq!(shards, ["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"]);
}

#[test]
fn every_class_of_module_with_weights_is_fetched_with_them() {
    for class in ["WeightedLayerPooling", "Dense", "LayerNorm"] {
        let mut hub = hub();
        let own = |class: &str| format!("sentence_transformers.models.{class}");
        let modules = json!([{"path": "", "type": own("Transformer")}, {"path": "1_Module", "type": own(class)}]);
        replace(&mut hub, "modules.json", Some(&modules.to_string()));
        let wanted = ["1_Module/config.json", "1_Module/model.safetensors"];
        for name in wanted {
            replace(&mut hub, name, Some("{}"));
        }
        let server = Server::start(hub);
        let mut client = Client::of(&server.endpoint);
        let found = client.resolve("main").expect("it is fetched");
        let fetched: Vec<String> = listing(&found.path).into_iter().filter(|name| name.starts_with("1_")).collect();
        assert_eq!(fetched, wanted, "{class}");
        client.settings.offline = true;
        std::fs::remove_file(found.path.join(wanted[1])).expect("it is there");
        assert!(client.error("main").contains("1_Module: no weights"), "{class}: {}", client.error("main"));
    }
}

#[test]
fn modules_bring_their_weights_and_a_router_all_its_routes() {
    let mut hub = hub();
    let own = |class: &str| format!("sentence_transformers.models.{class}");
    let modules = json!([{"path": "", "type": own("Router")}, {"path": "1_Dense", "type": own("Dense")}]).to_string();
    let router = json!({
        "types": {"query_0": own("Transformer"), "document_0": own("Transformer"), "query_1": own("Pooling")},
        "structure": {"query": ["query_0", "query_1"], "document": ["document_0", "query_1"]}
    });
    replace(&mut hub, "modules.json", Some(&modules));
    replace(&mut hub, "router_config.json", Some(&router.to_string()));
    let wanted = [
        "1_Dense/config.json",
        "1_Dense/model.safetensors",
        "document_0/config.json",
        "document_0/model.safetensors",
        "document_0/tokenizer.json",
        "query_0/config.json",
        "query_0/model.safetensors",
        "query_0/tokenizer.json",
        "query_1/config.json",
    ];
    for name in
        wanted.into_iter().chain(["query_1/model.safetensors", "1_Dense/pytorch_model.bin", "other/config.json"])
    {
        replace(&mut hub, name, Some("{}"));
    }
    let server = Server::start(hub);
    let mut client = Client::of(&server.endpoint);
    let found = client.resolve("main").expect("it is fetched");
    // config.json beside the Router is where an older one would have its routes.
    let expected =
        [&wanted[..2], &["config.json"], &wanted[2..5], &["modules.json"], &wanted[5..], &["router_config.json"]];
    assert_eq!(listing(&found.path), expected.concat());
    client.settings.offline = true;
    assert_eq!(client.resolve("main").expect("offline"), found);
    std::fs::remove_file(found.path.join("1_Dense/model.safetensors")).expect("it is there");
    assert!(client.error("main").contains("1_Dense: no weights"), "{}", client.error("main"));
}

#[test]
fn what_cannot_be_used_is_refused() {
    let check = |change: fn(&mut Hub), expected: &str| {
        let mut hub = hub();
        change(&mut hub);
        let server = Server::start(hub);
        let found = Client::of(&server.endpoint).error("main");
        assert!(found.starts_with(expected), "   found {found}\nexpected {expected}");
    };
    check(
        |hub| replace(hub, "model.safetensors", None),
        "acme/tiny@main: no model.safetensors; expected safetensors (take a revision",
    );
    check(
        |hub| {
            let modules = modules().replace("1_Pooling", "../../evil");
            replace(hub, "modules.json", Some(&modules));
            replace(hub, "../../evil/config.json", Some("{}"));
        },
        "HUB: unexpected response about model \"acme/tiny\": TMP/hub/models--acme--tiny/snapshots/1111",
    );
    check(
        |hub| {
            let modules = modules().replace("1_Pooling", "3_Dense").replace("models.Pooling", "models.Dense");
            replace(hub, "modules.json", Some(&modules));
            replace(hub, "3_Dense/pytorch_model.bin", Some("pickle"));
        },
        "acme/tiny@main: no 3_Dense/model.safetensors; expected safetensors (take a revision",
    );
    check(
        |hub| {
            let modules = json!([{"path": "/etc", "type": "sentence_transformers.models.Transformer"}]).to_string();
            replace(hub, "modules.json", Some(&modules));
        },
        "HUB: unexpected response about model \"acme/tiny\": TMP/hub/models--acme--tiny/snapshots/1111",
    );
    check(
        |hub| {
            drop(
                hub.revisions
                    .insert("main".into(), "../../../evil".into())
                    .map(|_| hub.files.insert("../../../evil".into(), vec![])),
            )
        },
        "HUB: unexpected response about model \"acme/tiny\": invalid commit \"../../../evil\"",
    );
}

#[test]
fn invalid_names_and_endpoints_are_refused() {
    let client = Client::of("http://127.0.0.1:1");
    let check = |id: &str, revision: &str, expected: &str| {
        let error = resolve(id, revision, &client.settings, &()).expect_err("it is refused").to_string();
        assert!(error.starts_with(expected), "   found {error}\nexpected {expected}");
    };
    check("./nowhere", "main", "./nowhere: no such folder, and not a model id; expected");
    check("a/b/c", "main", "a/b/c: no such folder, and not a model id; expected");
    check("a/b c", "main", "model.id: invalid name \"a/b c\"; expected letters, digits");
    check("a/..", "main", "model.id: invalid name \"a/..\"");
    check("a/b", "../c", "model.revision: invalid name \"../c\"; expected letters, digits");
    check("a/b", "", "model.revision: invalid name \"\"");
    check("a/b", "main", "http://127.0.0.1:1: cannot be reached: ");
    check("all-MiniLM-L6-v2", "main", "http://127.0.0.1:1: cannot be reached: ");
    for endpoint in ["", "ftp://a", "http://", "http://user:password@host"] {
        let client = Client::of(endpoint);
        assert!(matches!(client.resolve("main"), Err(HubError::InvalidEndpoint { .. })), "{endpoint}");
    }
}
