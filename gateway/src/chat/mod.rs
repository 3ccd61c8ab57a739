//! `throng chat`: a small terminal client, for two people on two terminals, and for scripts.
//!
//! It is a client like any other and knows nothing of the server's insides. Without a terminal
//! it reads lines from standard input and writes lines to standard output, nothing else.
//!
//! Invariants: a line that was typed is shown as sent only when the server has stored it; what
//! was not answered when a connection broke is sent again under its nonce; at the end of the
//! input the program waits for open answers.

mod api;
mod error;
mod link;
mod screen;
mod sign_in;
mod talk;
mod typed;

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use throng_protocol::{Event, Guild, User};

use self::api::Api;
use self::error::ChatError;
use self::link::Link;
use self::screen::Screen;
use self::talk::{Act, Talk};
use self::typed::Typed;

/// How long open answers are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(10);

/// Events and typed lines that may wait for the main thread; whoever brings more waits.
const HAPPENINGS_MAX: usize = 1024;

/// What `throng chat` takes.
#[derive(Args, Debug)]
pub struct ChatArgs {
    /// The server, http://HOST:PORT.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    target: String,
    /// User name; asked for without it.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Make the account first.
    #[arg(long)]
    register: bool,
    /// Take the first line of this file as the token instead of logging in.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "register"])]
    tokens: Option<PathBuf>,
    /// The channel to enter: its name, GUILD/NAME, or its id.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
}

/// What the main thread waits for.
#[derive(Debug)]
enum Happening {
    /// A line was typed.
    Line(String),
    /// There will be no more lines.
    NoMoreLines,
    /// The server says something.
    Heard(Box<Event>),
    /// The connection broke; it is being made again.
    Lost(ChatError),
    /// There will be no connection any more.
    Over(ChatError),
}

/// Chats until the user leaves: 0, or 1 when something failed.
#[must_use]
pub fn run(args: ChatArgs) -> ExitCode {
    match chat(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn chat(args: ChatArgs) -> Result<(), ChatError> {
    let mut api = Api::new(&args.target)?;
    let me = match &args.tokens {
        Some(path) => sign_in::with_token_file(&mut api, path)?,
        None => sign_in::sign_in(&mut api, args.user, args.register)?,
    };
    let (happens, happenings) = sync_channel(HAPPENINGS_MAX);
    let link = Link::open(&api, happens.clone())?;
    let screen = Screen::new();
    screen.show(&format!(
        "you are {}; /help says what you can do",
        me.username
    ));
    let mut room = Room {
        api,
        link,
        screen,
        talk: Talk::new(),
        guilds: Vec::new(),
    };
    room.enter_first(args.channel.as_deref(), &happenings, &me)?;
    read_lines(happens)?;
    room.stay(&happenings)
}

/// Everything that the main thread holds.
struct Room {
    api: Api,
    link: Link,
    screen: Screen,
    talk: Talk,
    guilds: Vec<Guild>,
}

impl Room {
    /// Waits for READY and goes where the user wants to be.
    fn enter_first(
        &mut self,
        channel: Option<&str>,
        happenings: &Receiver<Happening>,
        me: &User,
    ) -> Result<(), ChatError> {
        while !self.talk.is_ready() {
            match happenings.recv() {
                Ok(Happening::Over(error) | Happening::Lost(error)) => return Err(error),
                Ok(Happening::Heard(event)) => self.heard(*event),
                Ok(Happening::Line(_) | Happening::NoMoreLines) | Err(_) => {}
            }
        }
        self.guilds = self.api.guilds()?;
        match channel {
            Some(wanted) => self.switch(wanted),
            None if self.guilds.is_empty() => {
                let name = &me.username;
                self.screen.show(&format!(
                    "{name} is in no guild yet: /create NAME makes one, /join CODE joins one"
                ));
                Ok(())
            }
            None if self.guilds.len() == 1 => {
                let general = self.guilds[0].name.clone() + "/general";
                self.switch(&general).or_else(|_| self.list())
            }
            None => self.list(),
        }
    }

    fn stay(mut self, happenings: &Receiver<Happening>) -> Result<(), ChatError> {
        let mut is_leaving = false;
        loop {
            let happening = if is_leaving {
                if self.talk.open_messages() == 0 {
                    return Ok(());
                }
                match happenings.recv_timeout(FAREWELL) {
                    Ok(happening) => happening,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        return Err(ChatError::Unanswered {
                            messages: self.talk.open_messages(),
                        });
                    }
                }
            } else {
                happenings
                    .recv()
                    .map_err(|_| ChatError::Unanswered { messages: 0 })?
            };
            match happening {
                Happening::Heard(event) => self.heard(*event),
                Happening::Lost(error) => {
                    self.talk.disconnected();
                    self.screen
                        .show(&format!("connection lost ({error}), trying again"));
                }
                Happening::Over(error) => return Err(error),
                Happening::NoMoreLines => is_leaving = true,
                Happening::Line(line) => {
                    if !is_leaving {
                        self.screen.erase_typed_line();
                        is_leaving = self.typed(&line);
                    }
                }
            }
        }
    }

    fn heard(&mut self, event: Event) {
        let mut acts = Vec::new();
        self.talk.heard(event, self.api.token(), &mut acts);
        self.carry_out(acts);
    }

    fn carry_out(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Say(command) => self.link.say(command),
                Act::Show(line) => self.screen.show(&line),
            }
        }
    }

    /// Does what was typed; `true` when the user leaves. What fails is shown, and the chat goes on.
    fn typed(&mut self, line: &str) -> bool {
        let done = match typed::read(line) {
            Typed::Nothing => Ok(()),
            Typed::Say(text) => {
                let mut acts = Vec::new();
                self.talk.say(text, &mut acts);
                self.carry_out(acts);
                Ok(())
            }
            Typed::Help => {
                self.screen.show(typed::HELP);
                Ok(())
            }
            Typed::Channels => self.list(),
            Typed::Invite => self.invite(),
            Typed::Join(code) => self.join(code),
            Typed::Create(name) => self.create(name),
            Typed::CreateChannel(name) => self.create_channel(name),
            Typed::Switch(wanted) => self.switch(wanted),
            Typed::Quit => return true,
            Typed::Unknown(command) => {
                self.screen
                    .show(&format!("there is no {command}; /help lists what there is"));
                Ok(())
            }
        };
        if let Err(error) = done {
            self.screen.show(&error.to_string());
        }
        false
    }

    fn list(&mut self) -> Result<(), ChatError> {
        self.guilds = self.api.guilds()?;
        for line in talk::channel_list(&self.guilds) {
            self.screen.show(&line);
        }
        self.screen.show("/switch NUMBER or NAME enters one");
        Ok(())
    }

    fn invite(&self) -> Result<(), ChatError> {
        let guild = self.talk.guild().ok_or(ChatError::Nowhere)?;
        let code = self.api.invite(guild)?;
        self.screen
            .show(&format!("whoever types /join {code} is in"));
        Ok(())
    }

    fn join(&mut self, code: &str) -> Result<(), ChatError> {
        let guild = self.api.join(code)?;
        self.enter_guild(&guild)
    }

    fn create(&mut self, name: &str) -> Result<(), ChatError> {
        let guild = self.api.create_guild(name)?;
        self.enter_guild(&guild)
    }

    fn enter_guild(&mut self, guild: &Guild) -> Result<(), ChatError> {
        self.guilds = self.api.guilds()?;
        let first = guild.channels.first().ok_or(ChatError::Nowhere)?;
        self.switch(&first.id.to_string())
    }

    fn create_channel(&mut self, name: &str) -> Result<(), ChatError> {
        let guild = self.talk.guild().ok_or(ChatError::Nowhere)?;
        let channel = self.api.create_channel(guild, name)?;
        self.guilds = self.api.guilds()?;
        self.switch(&channel.id.to_string())
    }

    fn switch(&mut self, wanted: &str) -> Result<(), ChatError> {
        let place = talk::find_channel(&self.guilds, wanted)?;
        let history = self.api.history(place.channel)?;
        let mut acts = Vec::new();
        self.talk.enter(place, history, &mut acts);
        self.carry_out(acts);
        Ok(())
    }
}

/// Reads standard input on a thread of its own: a read there cannot be interrupted.
fn read_lines(happens: SyncSender<Happening>) -> Result<(), ChatError> {
    let reader = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if happens.send(Happening::Line(line)).is_err() {
                return;
            }
        }
        // The main thread has left already, if this fails.
        let _ = happens.send(Happening::NoMoreLines);
    };
    let spawned = std::thread::Builder::new()
        .name("typed lines".to_owned())
        .spawn(reader);
    spawned.map(drop).map_err(|source| ChatError::System {
        doing: "starting a thread",
        source,
    })
}
