//! `--help`, made from the tables. The first lines have the shape of urfave/cli's, which runc's tests look for.

use std::fmt::Write as _;

use super::command::{COMMANDS, Command, GLOBALS, Operands, Order};
use super::flag::{self, Flag, Kind};

/// Columns of the text.
const WIDTH: usize = 100;

/// The help of the program, which was called by the name `program`.
pub(crate) fn program_help(program: &str) -> String {
    let mut text = format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         USAGE:\n   {program} [global options] command [options] [arguments...]\n\nCOMMANDS:\n",
    );
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        row(&mut text, 12, command.word, command.about);
    }
    text.push_str("\nGLOBAL OPTIONS:\n");
    options(&mut text, GLOBALS);
    text.push_str("\nEXAMPLE:\n");
    example(
        &mut text,
        "mkdir -p bundle/rootfs/bin && cp /bin/busybox bundle/rootfs/bin/sh\n   \
         cd bundle && skep spec && skep run first",
        "make a bundle and run a shell in it",
    );
    text.push_str("\nskep help <command> tells more about a command.\n");
    text
}

/// The help of one command of the program, which was called by the name `program`.
pub(crate) fn command_help(program: &str, command: &Command) -> String {
    let mut text =
        format!("NAME:\n   {program} {} - {}\n\nUSAGE:\n   ", command.word, command.about);
    text.push_str(&usage(program, command));
    text.push('\n');
    if !command.description.is_empty() {
        text.push_str("\nDESCRIPTION:\n");
        for (number, paragraph) in command.description.split("\n\n").enumerate() {
            if number > 0 {
                text.push('\n');
            }
            for line in wrap(paragraph, WIDTH - 3) {
                let _infallible = writeln!(text, "   {line}");
            }
        }
    }
    text.push_str("\nOPTIONS:\n");
    options(&mut text, command.flags);
    if !command.examples.is_empty() {
        text.push_str("\nEXAMPLES:\n");
        for (line, what) in command.examples {
            example(&mut text, line, what);
        }
    }
    if command.order == Order::First && command.operands != Operands::Exactly(0) {
        text.push_str("\nOptions go before the container id.\n");
    }
    text
}

/// The usage line of a command.
pub(super) fn usage(program: &str, command: &Command) -> String {
    let mut text = format!("{program} {}", command.word);
    if command.flags.iter().any(|flag| !flag.hidden) {
        text.push_str(" [options]");
    }
    if !command.synopsis.is_empty() {
        text.push(' ');
        text.push_str(command.synopsis);
    }
    text
}

/// How a flag is written: `--bundle DIR, -b DIR`.
pub(super) fn spelling(flag: &Flag) -> String {
    let mut text = format!("--{}", flag.long);
    if flag.kind != Kind::Bool {
        let _infallible = write!(text, " {}", flag.value);
    }
    if let Some(letter) = flag.short {
        let _infallible = write!(text, ", -{}", char::from(letter));
    }
    text
}

fn options(text: &mut String, flags: &[&Flag]) {
    let shown: Vec<_> = flags
        .iter()
        .copied()
        .chain([&flag::HELP])
        .filter(|flag| !flag.hidden)
        .map(|flag| (spelling(flag), flag.help))
        .collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, help) in &shown {
        row(text, width, name, help);
    }
}

/// A name and its explanation, which goes on in its own column.
fn row(text: &mut String, width: usize, name: &str, help: &str) {
    for (number, line) in wrap(help, WIDTH.saturating_sub(width + 5)).iter().enumerate() {
        let name = if number == 0 { name } else { "" };
        let _infallible = writeln!(text, "   {name:width$}  {line}");
    }
}

fn example(text: &mut String, line: &str, what: &str) {
    let _infallible = writeln!(text, "   # {what}\n   {line}");
}

/// Breaks a paragraph into lines of at most `width` bytes where there are spaces to break at.
fn wrap(paragraph: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_ascii_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
