//! A headless Chromium, spoken to by its DevTools protocol over a pipe: messages of JSON that each end with a zero byte.
//!
//! No crate for this is used: what the tests need is five methods of the protocol, and the crates bring a runtime and half
//! of a browser's vocabulary.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

/// Whoever waits longer than this for a browser waits for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// One browser with one page, as large as a small laptop shows it.
pub(crate) struct Chromium {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Value,
    calls: u64,
    heard: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts one; where none is on the `PATH`, says so in one line, also where the output of tests is captured.
    pub(crate) fn start() -> Option<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |name: &&str| std::env::split_paths(&paths).any(|it| it.join(name).is_file());
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(is_there)
        else {
            let sentence =
                "no Chromium is on the PATH: pages are not looked at (Debian package chromium)\n";
            let _nobody_reads = std::io::stderr().write_all(sentence.as_bytes());
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        // It reads from descriptor 3 and writes to descriptor 4. Its sandbox needs what a container or root does not have;
        // the pages are our own.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2", program])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--remote-debugging-pipe",
                "--disable-extensions",
                "--disable-background-networking",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("it speaks JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut this = Self {
            input: child.stdin.take().expect("it is piped"),
            child,
            messages,
            session: Value::Null,
            calls: 0,
            heard: Vec::new(),
            _profile: profile,
        };
        let page = this.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        this.session = this.call("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log"] {
            this.call(&format!("{domain}.enable"), json!({}));
        }
        this.resize(1280, 800);
        Some(this)
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Calls a method of the protocol, and waits for what it gives.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).expect("it listens");
        loop {
            let message = self.next();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.heard.push(message);
        }
    }

    fn next(&self) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.expect("the browser answers")
    }

    /// Opens a file, and waits until it is loaded.
    pub(crate) fn open(&mut self, path: &Path) {
        let path = path.canonicalize().expect("it is there");
        self.go(&format!("file://{}", path.display()));
    }

    fn go(&mut self, address: &str) {
        self.load(|browser| {
            browser.call("Page.navigate", json!({ "url": address }));
        });
    }

    /// Clicks a link, and waits until what it leads to is loaded.
    pub(crate) fn follow(&mut self, selector: &str) {
        self.load(|browser| browser.strike(selector));
    }

    /// Waits until the page that this leads to is loaded.
    fn load(&mut self, act: impl FnOnce(&mut Self)) {
        let is_loaded = |message: &Value| message["method"] == "Page.loadEventFired";
        self.heard.retain(|message| !is_loaded(message));
        act(self);
        while !self.heard.iter().any(is_loaded) {
            let message = self.next();
            self.heard.push(message);
        }
    }

    /// What an expression of JavaScript comes to; promises are waited for.
    pub(crate) fn ask(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// What an expression comes to, as text.
    pub(crate) fn read(&mut self, expression: &str) -> String {
        let value = self.ask(expression);
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Whether an expression is true.
    pub(crate) fn is(&mut self, expression: &str) -> bool {
        self.ask(expression) == true
    }

    /// Presses a key, as a person does.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let code = if key == "Enter" { 13 } else { 0 };
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
        self.settle();
    }

    /// Clicks into the middle of an element that stays on the page.
    pub(crate) fn click(&mut self, selector: &str) {
        self.strike(selector);
        self.settle();
    }

    fn strike(&mut self, selector: &str) {
        let middle = self.ask(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect();
               return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Waits until what was done is drawn.
    pub(crate) fn settle(&mut self) {
        let drawn =
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
        self.ask(drawn);
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let began = std::time::Instant::now();
        while !self.is(expression) {
            assert!(began.elapsed() < PATIENCE, "never: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the page said on the console, threw, or was refused, since it was asked last.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.settle();
        let names = [
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
        ];
        let is_complaint = |message: &&Value| names.iter().any(|name| message["method"] == *name);
        let found = self.heard.iter().filter(is_complaint).map(Value::to_string);
        let found = found.collect();
        self.heard.clear();
        found
    }

    /// Keeps a picture of what is in sight where `SQUALL_SCREENSHOTS` names a directory.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("SQUALL_SCREENSHOTS") else {
            return;
        };
        for theme in ["light", "dark"] {
            let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
            self.call("Emulation.setEmulatedMedia", media);
            self.settle();
            let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
            let picture = BASE64.decode(taken["data"].as_str().expect("text").as_bytes());
            let path = Path::new(&directory).join(format!("{name}-{theme}.png"));
            std::fs::write(path, picture.expect("base64")).expect("it is written");
        }
        self.call("Emulation.setEmulatedMedia", json!({ "features": [] }));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It ends with its descriptors; where it does not, it is ended.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn what_a_page_complains_of_is_heard() {
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let write = |script: &str| {
        let text = format!("<!doctype html><link rel=icon href='data:,'><script>{script}</script>");
        std::fs::write(&page, text).expect("it is written");
    };
    write("document.title = 'calm'");
    browser.open(&page);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    for script in [
        "console.error('one')",
        "throw new Error('two')",
        "Promise.reject(3)",
        "document.body.append(Object.assign(new Image(), { src: 'none.png' }))",
    ] {
        write(&format!("onload = () => {{ {script} }}"));
        browser.open(&page);
        browser.settle();
        std::thread::sleep(Duration::from_millis(200));
        assert!(!browser.complaints().is_empty(), "{script}");
    }
}
