//! A process on a terminal of its own.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::eventually;

/// A process whose stdout and stderr are a terminal.
pub struct Terminal {
    controller: OwnedFd,
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command in a window, in a UTF-8 locale and without a choice about colours, unless the command has some.
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let side = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let own: Vec<_> = command.get_envs().map(|(name, _)| name.to_os_string()).collect();
        let settings = [
            ("LC_ALL", None),
            ("LC_CTYPE", None),
            ("LANG", Some("C.UTF-8")),
            ("TERM", Some("xterm-256color")),
            ("NO_COLOR", None),
            ("CLICOLOR", None),
            ("CLICOLOR_FORCE", None),
        ];
        for (name, value) in settings {
            match value {
                _ if own.iter().any(|own| own == name) => &mut command,
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut terminal = Terminal {
            child: {
                resize(&controller, columns, lines);
                command.stdout(side()).stderr(side()).spawn().unwrap()
            },
            written: Arc::default(),
            controller,
        };
        // Only the child has the other side now, so that the end of the child is the end of what can be read.
        drop(command);
        terminal.read();
        terminal
    }

    fn read(&mut self) {
        let mut file = File::from(self.controller.try_clone().unwrap());
        let written = Arc::clone(&self.written);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = file.read(&mut bytes) {
                written.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
    }

    /// All that was written, with the terminal's line ends as line feeds.
    pub fn text(&self) -> String {
        let bytes = self.written.lock().unwrap();
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    /// The page that was drawn last.
    pub fn page(&self) -> String {
        let text = self.text();
        let page = text.rsplit("\u{1b}[H").next().unwrap();
        page.replace("\u{1b}[K", "").replace("\u{1b}[J", "")
    }

    pub async fn await_page(&self, what: &str, fits: impl Fn(&str) -> bool) {
        eventually(what, async || {
            let page = self.page();
            fits(&page).then_some(()).ok_or(page)
        })
        .await;
    }

    /// Changes the size of the window, and tells the process, as a terminal tells those in its foreground.
    pub fn resize(&self, columns: u16, lines: u16) {
        resize(&self.controller, columns, lines);
        self.signal(Signal::WINCH);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for the end of the process, and of what it wrote.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = eventually("the process to end", async || {
            self.child.try_wait().unwrap().ok_or("it runs".to_string())
        })
        .await;
        // What is in the terminal is read within moments; nothing comes after it.
        let mut before = usize::MAX;
        while before != self.written.lock().unwrap().len() {
            before = self.written.lock().unwrap().len();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        status
    }
}

fn resize(controller: &OwnedFd, columns: u16, lines: u16) {
    let size = Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(controller, size).unwrap();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
