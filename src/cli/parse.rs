//! From `argv` to a command, its flags and its operands.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;
use std::time::Duration;

use libcontainer::{Error, Result};

use super::command::{self, Command, GLOBALS, Name, Operands, Order};
use super::flag::{self, Flag, Kind};
use super::globals::Globals;
use super::value;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct CommandLine<'a> {
    /// The flags before the command; those before the mistake, if there was one.
    pub(crate) globals: Globals<'a>,
    /// What is to be done, or what is wrong with the command line.
    pub(crate) request: Result<Request<'a>>,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    /// Show the help of the program, or of a command.
    Help(Option<&'static Command>),
    /// Print the version.
    Version,
    /// Run a command.
    Run(Name, Args<'a>),
}

/// The flags and operands of one command, in the order they were given.
#[derive(Debug, Default)]
pub(crate) struct Args<'a> {
    flags: Vec<Given<'a>>,
    operands: Vec<&'a OsStr>,
}

#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    flag: &'static Flag,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Switch(bool),
    Text(&'a OsStr),
}

/// Reads a command line, `argv[0]` included. Prints nothing.
pub(crate) fn parse<'a>(argv: &[&'a OsStr]) -> CommandLine<'a> {
    let (program, words) = match argv.split_first() {
        Some((program, words)) => (*program, words),
        None => (OsStr::new("skep"), argv),
    };
    let mut globals = Args::default();
    let mut words = words.iter();
    let request = match scan(&mut globals, &mut words, GLOBALS, Order::First) {
        Ok(()) if globals.flag(&flag::HELP) => Ok(Request::Help(None)),
        Ok(()) if globals.flag(&flag::VERSION) || globals.flag(&flag::VERSION_V) => {
            Ok(Request::Version)
        }
        Ok(()) => match globals.operands.split_first() {
            Some((word, rest)) => parse_command(program, word, rest),
            None => Ok(Request::Help(None)),
        },
        Err(error) => Err(error),
    };
    globals.operands.clear();
    CommandLine { globals: Globals(globals), request }
}

/// Whether a word is a command of `skep-image`.
pub(crate) fn is_image_command(word: &OsStr) -> bool {
    matches!(
        word.as_bytes(),
        b"pull"
            | b"unpack"
            | b"bundle"
            | b"inspect"
            | b"tags"
            | b"resolve"
            | b"ls"
            | b"cat"
            | b"copy"
            | b"push"
            | b"verify"
            | b"store"
    )
}

/// Whether a word is `--image`, with which `run` and `create` are of an image and not of a bundle.
pub(crate) fn is_image_flag(word: &OsStr) -> bool {
    let Some(flag) = word.as_bytes().strip_prefix(b"-") else { return false };
    let flag = flag.strip_prefix(b"-").unwrap_or(flag);
    flag.strip_prefix(b"image").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
}

/// Which word of `argv` is a command of `skep-image`, if one is.
pub(crate) fn of_images(argv: &[&OsStr]) -> Option<usize> {
    let mut globals = Args::default();
    let mut words = argv.get(1..)?.iter();
    scan(&mut globals, &mut words, GLOBALS, Order::First).ok()?;
    let (command, rest) = globals.operands.split_first()?;
    let of_images = match command.as_bytes() {
        b"run" | b"create" => {
            rest.iter().take_while(|word| **word != "--").any(|word| is_image_flag(word))
        }
        _ => is_image_command(command),
    };
    of_images.then(|| argv.len().saturating_sub(globals.operands.len()))
}

fn parse_command<'a>(program: &OsStr, word: &OsStr, rest: &[&'a OsStr]) -> Result<Request<'a>> {
    let Some(command) = command::find(word.as_bytes()) else {
        // runc's words (its tests and scripts look for them), with the hint put after them.
        let error = Error::config(format!("No help topic for '{}'", word.display()));
        return Err(error.hint("there is no such command; skep --help lists them"));
    };
    let mut args = Args::default();
    scan(&mut args, &mut rest.iter(), command.flags, command.order)?;
    if args.flag(&flag::HELP) {
        return Ok(Request::Help(Some(command)));
    }
    count(program, command, args.operands.len())?;
    Ok(Request::Run(command.name, args))
}

/// runc's words for a wrong number of operands.
fn count(program: &OsStr, command: &Command, given: usize) -> Result<()> {
    let (least, most) = match command.operands {
        Operands::Exactly(n) => (n, n),
        Operands::AtLeast(n) => (n, usize::MAX),
        Operands::Between(least, most) => (least, most),
    };
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let wanted = match command.operands {
        Operands::Exactly(n) => format!("exactly {n}"),
        _ if given < least => format!("a minimum of {least}"),
        _ => format!("a maximum of {most}"),
    };
    let program = program.display();
    let word = command.word;
    Err(Error::config(format!("{program}: \"{word}\" requires {wanted} argument(s)")))
}

/// Reads flags and operands into `args` until the words end; a call for help ends it at once.
fn scan<'a>(
    args: &mut Args<'a>,
    words: &mut slice::Iter<'_, &'a OsStr>,
    flags: &'static [&'static Flag],
    order: Order,
) -> Result<()> {
    while let Some(&word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            args.operands.extend(words.as_slice());
            break;
        }
        if bytes.len() < 2 || !bytes.starts_with(b"-") {
            args.operands.push(word);
            if order == Order::First {
                args.operands.extend(words.as_slice());
                break;
            }
            continue;
        }
        one(args, bytes, words, flags)?;
        if args.flag(&flag::HELP) {
            break;
        }
    }
    Ok(())
}

/// Reads one word of flags, and the next word where it is the value of the last flag.
fn one<'a>(
    args: &mut Args<'a>,
    word: &'a [u8],
    words: &mut slice::Iter<'_, &'a OsStr>,
    flags: &'static [&'static Flag],
) -> Result<()> {
    let (name, dashes) = match word.strip_prefix(b"--") {
        Some(name) => (name, 2),
        None => (word.get(1..).unwrap_or_default(), 1),
    };
    let (name, inline) = match name.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let (name, value) = name.split_at(at);
            (name, value.get(1..).map(OsStr::from_bytes))
        }
        None => (name, None),
    };
    if name.is_empty() || name.starts_with(b"-") {
        return Err(Error::config(format!("bad flag syntax: {}", show(word))));
    }
    if let Some(flag) = named(flags, name) {
        return args.give(flag, name, inline, words);
    }
    if dashes == 2 {
        return Err(unknown(name));
    }
    bundle(args, word.get(1..).unwrap_or_default(), words, flags).map_err(|bad| match bad {
        Bad::Letter => unknown(name),
        Bad::Value(error) => error,
    })
}

enum Bad {
    Letter,
    Value(Error),
}

/// Reads getopt(3)'s short flags in one word: `-dt`, `-bDIR`, `-tu1000`.
fn bundle<'a>(
    args: &mut Args<'a>,
    letters: &'a [u8],
    words: &mut slice::Iter<'_, &'a OsStr>,
    flags: &'static [&'static Flag],
) -> std::result::Result<(), Bad> {
    let mut rest = letters;
    while let Some((letter, tail)) = rest.split_first() {
        let name = slice::from_ref(letter);
        let flag = named(flags, name).ok_or(Bad::Letter)?;
        let inline = match (flag.kind, tail) {
            (Kind::Bool, _) | (_, []) => None,
            (_, [b'=', value @ ..] | value) => Some(OsStr::from_bytes(value)),
        };
        args.give(flag, name, inline, words).map_err(Bad::Value)?;
        rest = if inline.is_some() { &[] } else { tail };
    }
    Ok(())
}

fn named(flags: &'static [&'static Flag], name: &[u8]) -> Option<&'static Flag> {
    let is = |flag: &&Flag| match name {
        [letter] => flag.short == Some(*letter) || flag.long.as_bytes() == name,
        _ => flag.long.as_bytes() == name,
    };
    flags.iter().copied().find(|flag| is(flag)).or_else(|| is(&&flag::HELP).then_some(&flag::HELP))
}

fn unknown(name: &[u8]) -> Error {
    Error::config(format!("flag provided but not defined: -{}", show(name)))
}

fn show(word: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(word)
}

impl<'a> Args<'a> {
    fn give(
        &mut self,
        flag: &'static Flag,
        name: &[u8],
        inline: Option<&'a OsStr>,
        words: &mut slice::Iter<'_, &'a OsStr>,
    ) -> Result<()> {
        let value = match (flag.kind, inline) {
            (Kind::Bool, None) => Value::Switch(true),
            (Kind::Bool, Some(text)) => Value::Switch(value::boolean(text).ok_or_else(|| {
                let (text, name) = (text.display().to_string(), show(name));
                Error::config(format!("invalid boolean value {text:?} for -{name}: parse error"))
            })?),
            (_, Some(text)) => Value::Text(text),
            (_, None) => Value::Text(words.next().copied().ok_or_else(|| {
                Error::config(format!("flag needs an argument: -{}", show(name)))
            })?),
        };
        self.flags.push(Given { flag, value });
        Ok(())
    }

    fn given(&self, flag: &'static Flag) -> impl DoubleEndedIterator<Item = Value<'a>> + '_ {
        self.flags
            .iter()
            .filter(move |given| std::ptr::eq(given.flag, flag))
            .map(|given| given.value)
    }

    /// Says whether a [`Kind::Bool`] flag is on.
    pub(crate) fn flag(&self, flag: &'static Flag) -> bool {
        matches!(self.given(flag).next_back(), Some(Value::Switch(true)))
    }

    /// Returns the last value of a flag; an empty one is none, as in runc.
    pub(crate) fn value(&self, flag: &'static Flag) -> Option<&'a OsStr> {
        match self.given(flag).next_back() {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Returns the last value of a flag as a path.
    pub(crate) fn path(&self, flag: &'static Flag) -> Option<&'a Path> {
        self.value(flag).map(Path::new)
    }

    /// Returns the last value of a flag as text.
    ///
    /// # Errors
    /// A value that is not UTF-8.
    pub(crate) fn text(&self, flag: &'static Flag) -> Result<Option<&'a str>> {
        self.read(flag, |text| text.to_str().ok_or("not UTF-8"))
    }

    /// Returns every value of a [`Kind::List`] flag, in order.
    pub(crate) fn values(&self, flag: &'static Flag) -> impl Iterator<Item = &'a OsStr> + '_ {
        self.given(flag).filter_map(|value| match value {
            Value::Text(text) => Some(text),
            Value::Switch(_) => None,
        })
    }

    /// Returns the last value of a flag as a decimal number.
    ///
    /// # Errors
    /// A value that is no such number.
    pub(crate) fn int(&self, flag: &'static Flag) -> Result<Option<i64>> {
        self.read(flag, value::int)
    }

    /// Returns the last value of a flag as a decimal number that is not negative.
    ///
    /// # Errors
    /// A value that is no such number.
    pub(crate) fn uint(&self, flag: &'static Flag) -> Result<Option<u64>> {
        self.read(flag, value::uint)
    }

    /// Returns the last value of a flag in bytes: `512`, `64m`, `1.5GiB`; -1 is "no limit".
    ///
    /// # Errors
    /// A value that is no such size.
    pub(crate) fn bytes(&self, flag: &'static Flag) -> Result<Option<i64>> {
        self.read(flag, value::bytes)
    }

    /// Returns the last value of a flag as a duration in Go's form: `5s`, `1m30s`, `250ms`.
    ///
    /// # Errors
    /// A value that is no such duration.
    pub(crate) fn duration(&self, flag: &'static Flag) -> Result<Option<Duration>> {
        self.read(flag, value::duration)
    }

    fn read<T>(
        &self,
        flag: &'static Flag,
        read: impl FnOnce(&'a OsStr) -> std::result::Result<T, &'static str>,
    ) -> Result<Option<T>> {
        let Some(text) = self.value(flag) else { return Ok(None) };
        match read(text) {
            Ok(value) => Ok(Some(value)),
            Err(why) => {
                let (text, name) = (text.display().to_string(), flag.long);
                Err(Error::config(format!("invalid value {text:?} for flag -{name}: {why}")))
            }
        }
    }

    /// Returns the operands.
    pub(crate) fn operands(&self) -> &[&'a OsStr] {
        &self.operands
    }

    /// Returns one operand, counted from 0.
    pub(crate) fn operand(&self, index: usize) -> Option<&'a OsStr> {
        self.operands.get(index).copied()
    }

    /// Returns the first operand, the container id, not yet checked against the rules for ids.
    ///
    /// # Errors
    /// No operand, or one that is not UTF-8.
    pub(crate) fn id(&self) -> Result<&'a str> {
        match self.operand(0) {
            Some(id) if !id.is_empty() => {
                id.to_str().ok_or_else(|| Error::config("invalid container ID format"))
            }
            _ => Err(Error::config("container id cannot be empty")),
        }
    }
}
