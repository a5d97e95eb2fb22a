//! Manual pages in man(7) format, made from the tables.

use std::fmt::Write as _;

use super::command::{COMMANDS, Command, GLOBALS};
use super::flag::{self, Flag};
use super::help::{spelling, usage};

/// skep(8).
pub(crate) fn program_page() -> String {
    let mut page = heading("SKEP", "skep", "Open Container Initiative runtime");
    section(&mut page, "SYNOPSIS");
    page.push_str(".B skep\n[global options] command [options] [arguments...]\n");
    section(&mut page, "DESCRIPTION");
    paragraphs(
        &mut page,
        "skep creates and runs containers from bundles, as the runtime specification of the Open Container \
         Initiative describes them. It is called by engines such as Docker, containerd, CRI-O and Podman, or by \
         hand, and takes the commands and flags of runc and crun.\n\n\
         A flag may be written with one dash or two, its value after a space or an equals sign; --flag=false turns \
         a flag off, and when one is repeated the last counts. Flags before the command belong to skep, those \
         after it to the command.",
    );
    section(&mut page, "COMMANDS");
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        let _infallible = writeln!(
            page,
            ".TP\n.BR skep\\-{} (8)\n{}.",
            escape(command.word),
            escape(&capitalised(command.about))
        );
    }
    section(&mut page, "GLOBAL OPTIONS");
    options(&mut page, GLOBALS);
    section(&mut page, "EXIT STATUS");
    paragraphs(
        &mut page,
        "run, exec and restore exit with the status of the process they waited for: its exit code, or 128 and the \
         number of the signal that ended it. Every command exits with 1 when skep itself fails; exec with 255.",
    );
    section(&mut page, "FILES");
    page.push_str(
        ".TP\n.I /run/skep\nState of containers, one directory for each.\n\
         .TP\n.I config.json\nThe configuration in the bundle directory.\n",
    );
    page
}

/// skep-COMMAND(8).
pub(crate) fn command_page(command: &Command) -> String {
    let title = format!("skep-{}", command.word);
    let mut page = heading(&title.to_uppercase(), &title, command.about);
    section(&mut page, "SYNOPSIS");
    let _infallible = writeln!(page, "{}", escape(&usage("skep", command)));
    if !command.description.is_empty() {
        section(&mut page, "DESCRIPTION");
        paragraphs(&mut page, command.description);
    }
    section(&mut page, "OPTIONS");
    options(&mut page, command.flags);
    if !command.examples.is_empty() {
        section(&mut page, "EXAMPLES");
        for (line, what) in command.examples {
            let (line, what) = (escape(line), escape(&capitalised(what)));
            let _infallible = writeln!(page, ".PP\n{what}:\n.PP\n.RS 4\n.EX\n{line}\n.EE\n.RE");
        }
    }
    section(&mut page, "SEE ALSO");
    page.push_str(".BR skep (8)\n");
    page
}

fn heading(title: &str, name: &str, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (title, name, about) = (escape(title), escape(name), escape(about));
    format!(".TH {title} 8 \"\" \"skep {version}\" \"skep\"\n.SH NAME\n{name} \\- {about}\n")
}

fn section(page: &mut String, title: &str) {
    let _infallible = writeln!(page, ".SH {title}");
}

fn paragraphs(page: &mut String, text: &str) {
    for paragraph in text.split("\n\n") {
        let _infallible = writeln!(page, ".PP\n{}", escape(paragraph));
    }
}

fn options(page: &mut String, flags: &[&Flag]) {
    for flag in flags.iter().copied().chain([&flag::HELP]).filter(|flag| !flag.hidden) {
        let (name, help) = (escape(&spelling(flag)), escape(&capitalised(flag.help)));
        let _infallible = writeln!(page, ".TP\n.B {name}\n{help}.");
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// groff_char(7): a plain - is a hyphen, and a line must not begin with a control character.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
