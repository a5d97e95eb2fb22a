#!/usr/bin/env bash
# Who may know whom, held against every `crate::` path outside tests. Prints file:line of each that breaks it.
#
# A module of libcontainer uses those its row names, whole or by the path given, and always itself and `error`.
# To add to a row is a decision about the design, not a repair: say why in the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec perl - <<'PERL'
use strict;
use warnings;

my %may_use = map { my ($module, @paths) = split; $module => \@paths } grep { /\S/ } split /\n/, <<'TABLE';
error
id
log
time        sys::process
sys
timeline    log sys::shared
spec
sync
path        sys
process     sys
seccomp     spec sys::seccomp
hooks       spec sys
terminal    spec::ConsoleSize sys
notify      path sys
dbus        sys
foreground  notify terminal spec::ConsoleSize sys
cgroup      dbus path::clean spec sys
resctrl     spec::IntelRdt
store       id cgroup process::Init resctrl spec::Map spec::MemoryPolicy spec::Personality spec::Str sys
bundle      spec sys
exeseal     sys
criu        cgroup::Cgroup cgroup::V1View notify path plan spec sys
plan        hooks path seccomp spec sync::Fault sync::Step sys::creds::CapSet sys::exec::CStrArray sys::mount::Attr sys::mount::Recursive sys::scheduling::Attributes
init        cgroup::V1View exeseal::leave_behind exeseal::let_go hooks path plan spec::Hook sync sys terminal timeline
launch      bundle cgroup criu exeseal foreground::Tty hooks id init log notify path plan process resctrl seccomp spec store sync sys terminal time timeline
container   bundle cgroup criu hooks id launch log notify path plan process resctrl spec store sync sys timeline
TABLE

# [files, pattern, why not]
my $library = qr{^libcontainer/src/};
my $image = qr{^src/image/src/};
my $program = qr{^src/(?!image/)};
my @forbidden = (
    [qr{^(libcontainer/|src/image/)?src/(?!sys/)}, qr/\bunsafe\s*(\{|fn\b|impl\b|extern\b)/, 'unsafe is for libcontainer/src/sys'],
    [qr{^libcontainer/src/(?!sys/)}, qr/\blibc::(?!makedev|major|minor)[a-z_0-9]+\s*\(/, 'system calls are made in sys or by nix'],
    [$program, qr/\blibc::[a-z_0-9]+\s*\(/, 'system calls are made in libcontainer::sys or by nix'],
    [$image, qr/\blibc::(?!makedev|major|minor)[a-z_0-9]+\s*\(/, 'system calls are made in libcontainer::sys or by nix'],
    [$program, qr/\bskep_image\b/, 'skep executes skep-image and links nothing of it'],
    [qr{^src/commands/}, qr/\blibc::|\blibcontainer::(init|sync)\b/, 'commands say what is wanted, not how'],
    [$library, qr/\b(clap|anyhow|oci_spec)::/, 'the library knows neither'],
    [$library, qr/\be?print(ln)?!|\bdbg!/, 'the library says it through Log or its result'],
    [$library, qr/\benv::(args|args_os|vars|vars_os|var|var_os|set_var|remove_var|current_dir|set_current_dir)\b/,
        'environment, arguments and current directory belong to the program'],
    [qr{^(libcontainer/)?src/(?!image/)}, qr/\bthread::(spawn|Builder|scope)\b/, 'one thread until exec'],
    [qr{^libcontainer/src/(sys|sync|init)(/|\.rs)}, qr/\bserde(_json)?::|\bfs::(File|read|write|read_to_string|remove_\w+|create_\w+)\b/,
        'the child parses nothing and opens by descriptor'],
    [qr{^libcontainer/src/plan/}, qr/\bnix::(?!errno\b)|\bstd::(fs|env|process|io)\b|\bsys::[a-z_:]+\(/, 'planning makes no system call'],
);

my $broken = 0;

sub complain {
    my ($file, $line, $text) = @_;
    print "$file:$line: $text\n";
    $broken++;
}

# The paths below `crate::` that a group names: "a::{self, b::{c, d}}" is a, a::b::c and a::b::d.
sub expand {
    my ($text) = @_;
    return ($text) unless $text =~ /^(.*?)\{(.*)\}$/s;
    my ($prefix, $inside) = ($1, $2);
    my ($depth, $item, @items) = (0, '');
    for my $char (split //, $inside) {
        $depth += ($char eq '{') - ($char eq '}');
        if ($char eq ',' && !$depth) { push @items, $item; $item = ''; next }
        $item .= $char;
    }
    return map { expand($prefix . $_) } grep { length } @items, $item;
}

sub check {
    my ($file) = @_;
    open my $handle, '<', $file or die "$file: $!\n";
    local $/;
    my $text = <$handle>;
    # The tests at the end, then strings and comments; lines keep their numbers.
    $text =~ s/^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*(?:pub(?:\(crate\))? )?mod \w+ \{.*//ms;
    $text =~ s{("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/}{ my $all = $&; my $n = ($all =~ tr/\n//); defined $1 ? '""' . "\n" x $n : "\n" x $n }gse;

    for my $rule (@forbidden) {
        my ($files, $pattern, $why) = @$rule;
        next unless $file =~ $files;
        while ($text =~ /$pattern/g) {
            my ($found, $line) = ($&, 1 + (substr($text, 0, $-[0]) =~ tr/\n//));
            complain($file, $line, "`$found`: $why");
        }
    }

    return unless $file =~ m{^libcontainer/src/(\w+)} && $1 ne 'lib';
    my $module = $1;
    my $row = $may_use{$module} or return complain($file, 1, "hack/layers.sh has no row for `$module`");
    while ($text =~ /\bcrate::((?:\w+(?:::)?)*((?<=::)\{(?:[^{}]|(?2))*\})?)/g) {
        my ($path, $line) = ($1, 1 + (substr($text, 0, $-[0]) =~ tr/\n//));
        $path =~ s/\s+//g;
        for my $used (expand($path)) {
            $used =~ s/::self$//;
            my ($first) = $used =~ /^(\w+)/;
            next if $first eq $module || $first eq 'error' || $first =~ /^(Error|Kind|Result)$/;
            # A module imported whole is judged by what is reached through it, which the table leaves to the reader.
            next if grep { $used =~ /^\Q$_\E(::|$)/ || /^\Q$used\E::/ } @$row;
            complain($file, $line, "`$module` may not use `$used`");
        }
    }
}

my @files = split /\n/, `find src libcontainer/src -name '*.rs' -not -name 'tests.rs' -not -name '*_tests.rs' -not -path '*_tests/*' | sort`;
check($_) for @files;
print "$broken broken, see the table in hack/layers.sh\n" if $broken;
exit($broken > 0);
PERL
