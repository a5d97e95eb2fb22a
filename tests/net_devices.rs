//! linux.netDevices: devices of a "host" that is a network namespace of the test's own.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::reaper::{self, Child};
use crate::harness::runner::cases;
use crate::harness::runtime::Call;
use crate::harness::{Container, Test, json, wait};

cases![
    a_device_moves_in_with_all_it_has,
    a_device_is_renamed,
    a_device_that_was_down_is_set_up,
    a_device_moves_into_a_user_namespace,
    several_devices_move_in,
    a_template_takes_the_first_free_name,
    a_device_moves_into_a_joined_namespace_and_stays,
    hooks_and_sysctls_find_the_device,
    a_missing_device_is_refused,
    a_name_that_is_taken_is_refused,
    the_name_of_the_device_itself_may_be_taken,
    loopback_is_refused,
    devices_without_a_network_namespace_are_refused,
    devices_for_the_runtimes_own_namespace_are_refused,
    a_bad_name_is_refused,
    a_failed_create_gives_the_device_back,
    a_failed_run_gives_all_devices_back,
    a_bridge_gets_its_port_back,
];

/// The network namespace the runtime is called in. It ends with the test, and what is in it with it.
struct Net {
    holder: Child,
}

impl Net {
    fn new(t: &Test) -> Self {
        t.need_capability("CAP_NET_ADMIN");
        for program in ["ip", "nsenter", "unshare"] {
            t.need_program(program);
        }
        let net = Self::empty();
        t.need(
            net.ip("link add probe0 type veth peer name probe1").is_some(),
            "this kernel has no veth devices",
        );
        net.ip("link del probe0").unwrap();
        net.ip("link set lo up").unwrap();
        net
    }

    fn empty() -> Self {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let mut command = Command::new("unshare");
        crate::harness::sys::die_with_parent(&mut command);
        let holder = reaper::spawn(command.args(["--net", "sleep", "1000"])).unwrap();
        let path = format!("/proc/{}/ns/net", holder.pid);
        wait::until("the namespace is there", || {
            fs::read_link(&path).is_ok_and(|link| link != own).then_some(())
        });
        Self { holder }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid)
    }

    fn enter(&self) -> String {
        format!("--net={}", self.path())
    }

    /// What `ip ARGUMENTS` prints in there; nothing if it fails.
    fn ip(&self, arguments: &str) -> Option<String> {
        let mut command = Command::new("nsenter");
        command.arg(self.enter()).arg("ip").args(arguments.split_whitespace());
        let output = reaper::output(&mut command).unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    #[track_caller]
    fn set(&self, lines: &[&str]) {
        for line in lines {
            assert!(self.ip(line).is_some(), "ip {line}");
        }
    }

    /// The device `veth0`, up, with addresses, routes and an MTU; its peer is up as well.
    fn with_device(t: &Test) -> Self {
        let net = Self::new(t);
        net.set(&[
            "link add veth0 type veth peer name peer0",
            "link set veth0 mtu 1410 address 02:00:00:00:00:17",
            "link set peer0 up",
            "link set veth0 up",
            "addr add 192.0.2.17/24 broadcast 192.0.2.255 dev veth0",
            "addr add 192.0.2.99/32 scope link dev veth0",
            "addr add 2001:db8::17/64 nodad dev veth0",
            "addr add 203.0.113.5/32 valid_lft 1000 preferred_lft 900 dev veth0",
            "route add 198.51.100.0/24 via 192.0.2.1 dev veth0 metric 7",
            "route add 203.0.113.128/25 dev veth0",
            "route add 2001:db8:1::/48 via 2001:db8::1 dev veth0",
        ]);
        net
    }

    /// What a device that was given back has to be like.
    fn describe(&self) -> String {
        let links = self.ip("-o -d link show veth0").expect("veth0 is there");
        // Counters and the peer's index aside.
        let words: Vec<&str> = links.split_whitespace().collect();
        let (flags, mtu) = (words[2], words[4]);
        let mac = words[words.iter().position(|word| *word == "link/ether").unwrap() + 1];
        let addresses = self.ip("-o addr show dev veth0 scope global permanent").unwrap();
        let addresses: Vec<&str> =
            addresses.lines().map(|line| line.split_once("veth0").unwrap().1.trim()).collect();
        let four = self.ip("route show dev veth0").unwrap();
        let six = self.ip("-6 route show dev veth0").unwrap();
        let mut routes: Vec<&str> = four.lines().chain(six.lines()).map(str::trim).collect();
        routes.sort_unstable();
        format!("{flags} {mtu} {mac} {addresses:#?} {routes:#?}")
    }

    fn call<'t>(&self, call: Call<'t>) -> Call<'t> {
        call.by(&["nsenter", &self.enter(), "--"])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _gone = kill(Pid::from_raw(self.holder.pid), Signal::SIGKILL);
        self.holder.wait(wait::patience());
    }
}

/// A container with `devices` as its netDevices.
fn with<'t>(t: &'t Test, devices: serde_json::Value) -> Container<'t> {
    t.container().set("/linux/netDevices", devices)
}

const SHOW: &str = "ip -o link; ip -o -4 addr; ip -o -6 addr; ip route; ip -6 route";

fn a_device_moves_in_with_all_it_has(t: &Test) {
    let net = Net::with_device(t);
    let c = with(t, json!({"veth0": {}})).sh(SHOW);
    let output = net.call(c.bundle_call("run", &[])).run().ok().no_stderr();
    let text = output.text();
    let device = text.lines().find(|line| line.contains("veth0@")).expect("the device");
    for word in ["UP", "mtu 1410", "02:00:00:00:00:17"] {
        assert!(device.contains(word), "{word}: {output}");
    }
    for line in [
        "inet 192.0.2.17/24 brd 192.0.2.255 scope global veth0",
        "inet6 2001:db8::17/64 scope global",
        "198.51.100.0/24 via 192.0.2.1 dev veth0",
        "metric 7",
        "203.0.113.128/25 dev veth0",
        "2001:db8:1::/48 via 2001:db8::1 dev veth0",
    ] {
        assert!(text.contains(line), "{line}: {output}");
    }
    // Neither what is the link's alone nor what runs out.
    for address in ["192.0.2.99", "203.0.113.5"] {
        assert!(!text.contains(address), "{output}");
    }
    assert!(net.ip("link show veth0").is_none());
}

fn a_device_is_renamed(t: &Test) {
    let net = Net::with_device(t);
    let c = with(t, json!({"veth0": {"name": "eth0"}})).sh(SHOW);
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    assert!(output.stdout.contains("scope global eth0"), "{output}");
    assert!(output.stdout.contains("198.51.100.0/24 via 192.0.2.1 dev eth0"), "{output}");
    assert!(!output.stdout.contains("veth0"), "{output}");
}

fn a_device_that_was_down_is_set_up(t: &Test) {
    let net = Net::with_device(t);
    net.set(&["link set veth0 down"]);
    let c = with(t, json!({"veth0": {}})).sh("ip -o link show veth0; ip -o -4 addr show veth0");
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    assert!(output.stdout.contains(",UP") && output.stdout.contains("192.0.2.17/24"), "{output}");
}

fn a_device_moves_into_a_user_namespace(t: &Test) {
    t.need_user_namespaces();
    let net = Net::with_device(t);
    let c = with(t, json!({"veth0": {"name": "eth0"}})).user_namespace(100_000).sh("ip -o -4 addr");
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    assert!(output.stdout.contains("192.0.2.17/24"), "{output}");
}

fn several_devices_move_in(t: &Test) {
    let net = Net::with_device(t);
    net.set(&["link add veth1 type veth peer name peer1", "addr add 192.0.2.18/32 dev veth1"]);
    // Each gets the other's name.
    let c = with(t, json!({"veth0": {"name": "veth1"}, "veth1": {"name": "veth0"}}))
        .sh("ip -o -4 addr show veth0; ip -o -4 addr show veth1");
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].contains("veth0") && lines[0].contains("192.0.2.18"), "{output}");
    assert!(lines[1].contains("veth1") && lines[1].contains("192.0.2.17"), "{output}");
}

fn a_template_takes_the_first_free_name(t: &Test) {
    let net = Net::with_device(t);
    let inside = Net::empty();
    inside.set(&[
        "link add eth0 type veth peer name eth2",
        "link add veth0 type veth peer name other",
    ]);
    let c = with(t, json!({"veth0": {"name": "eth%d"}}))
        .set("/linux/namespaces/1/path", json!(inside.path()))
        .sh("ip -o -4 addr show eth1");
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    assert!(output.stdout.contains("192.0.2.17/24"), "{output}");
}

fn a_device_moves_into_a_joined_namespace_and_stays(t: &Test) {
    let net = Net::with_device(t);
    let inside = Net::empty();
    let c = with(t, json!({"veth0": {}}))
        .set("/linux/namespaces/1/path", json!(inside.path()))
        .lasting();
    net.call(c.bundle_call("run", &["--detach"])).run().ok();
    c.delete_force().ok();
    t.assert_nothing_left();
    // config-linux.md: the runtime MUST NOT attempt to move the interface out of the namespace before deletion.
    assert!(inside.ip("-o -4 addr show veth0").unwrap().contains("192.0.2.17/24"));
    assert!(net.ip("link show veth0").is_none());
}

fn hooks_and_sysctls_find_the_device(t: &Test) {
    let net = Net::with_device(t);
    t.need_program("nsenter");
    let seen = t.path("seen");
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -1); nsenter -t $pid -n ip -o link show eth7 > {}",
        seen.display()
    );
    let c = with(t, json!({"veth0": {"name": "eth7"}}))
        .hook("createRuntime", &script)
        .set("/linux/sysctl", json!({"net.ipv4.conf.eth7.arp_ignore": "2"}))
        .sh("cat /proc/sys/net/ipv4/conf/eth7/arp_ignore");
    net.call(c.bundle_call("run", &[])).run().ok().prints("2\n");
    assert!(fs::read_to_string(seen).unwrap().contains("eth7"));
}

fn a_missing_device_is_refused(t: &Test) {
    let net = Net::with_device(t);
    let before = net.describe();
    // The first one has been moved by then.
    let c = with(t, json!({"veth0": {}, "veth9": {}}));
    net.call(c.bundle_call("create", &[])).run().fails().names("linux.netDevices[\"veth9\"]");
    t.assert_nothing_left();
    assert_eq!(net.describe(), before);
}

fn a_name_that_is_taken_is_refused(t: &Test) {
    let net = Net::with_device(t);
    let before = net.describe();
    let inside = Net::empty();
    inside.set(&["link add eth0 type veth peer name eth1"]);
    for name in ["eth0", "lo"] {
        let c = with(t, json!({"veth0": {"name": name}}))
            .set("/linux/namespaces/1/path", json!(inside.path()));
        let output = net.call(c.bundle_call("create", &[])).run().fails();
        output.names("linux.netDevices[\"veth0\"]").names("file exists");
        t.assert_nothing_left();
    }
    assert_eq!(net.describe(), before);
}

fn the_name_of_the_device_itself_may_be_taken(t: &Test) {
    let net = Net::with_device(t);
    let inside = Net::empty();
    inside.set(&["link add veth0 type veth peer name eth1"]);
    let c = with(t, json!({"veth0": {"name": "eth0"}}))
        .set("/linux/namespaces/1/path", json!(inside.path()))
        .sh("ip -o -4 addr show eth0");
    let output = net.call(c.bundle_call("run", &[])).run().ok();
    assert!(output.stdout.contains("192.0.2.17/24"), "{output}");
}

fn loopback_is_refused(t: &Test) {
    let net = Net::new(t);
    let c = with(t, json!({"lo": {"name": "lo1"}}));
    net.call(c.bundle_call("run", &[])).run().fails().names("linux.netDevices[\"lo\"]");
    t.assert_nothing_left();
}

fn devices_without_a_network_namespace_are_refused(t: &Test) {
    let net = Net::with_device(t);
    let before = net.describe();
    let c = with(t, json!({"veth0": {}})).without_namespace("network");
    net.call(c.bundle_call("run", &[])).run().fails().names("linux.netDevices");
    t.assert_nothing_left();
    assert_eq!(net.describe(), before);
}

fn devices_for_the_runtimes_own_namespace_are_refused(t: &Test) {
    let net = Net::with_device(t);
    let before = net.describe();
    let c = with(t, json!({"veth0": {}})).set("/linux/namespaces/1/path", json!(net.path()));
    net.call(c.bundle_call("run", &[])).run().fails().names("linux.netDevices");
    t.assert_nothing_left();
    assert_eq!(net.describe(), before);
}

fn a_bad_name_is_refused(t: &Test) {
    for devices in [
        json!({"a-name-of-many-bytes": {}}),
        json!({"veth0": {"name": "eth/0"}}),
        json!({"veth0": {"name": "eth0"}, "veth1": {"name": "eth0"}}),
        json!({"veth0": {"name": 5}}),
        json!({"veth0": []}),
    ] {
        with(t, devices).run().fails().names("linux.netDevices");
        t.assert_nothing_left();
    }
}

fn a_failed_create_gives_the_device_back(t: &Test) {
    let net = Net::with_device(t);
    let before = net.describe();
    for c in [
        with(t, json!({"veth0": {"name": "eth0"}})).args(&["/no/such/program"]),
        with(t, json!({"veth0": {"name": "eth0"}})).hook("createContainer", "exit 3"),
        with(t, json!({"veth0": {}})).hook("createRuntime", "exit 3"),
    ] {
        net.call(c.bundle_call("create", &[])).run().fails();
        t.assert_nothing_left();
        assert_eq!(net.describe(), before);
    }
}

fn a_failed_run_gives_all_devices_back(t: &Test) {
    let net = Net::with_device(t);
    net.set(&["link add veth1 type veth peer name peer1"]);
    let before = net.describe();
    let c = with(t, json!({"veth0": {"name": "veth1"}, "veth1": {"name": "veth0"}}))
        .set("/ociVersion", json!("1.2.0"))
        .hook("poststart", "exit 3")
        .lasting();
    net.call(c.bundle_call("run", &["--detach"])).run().fails();
    t.assert_nothing_left();
    assert_eq!(net.describe(), before);
    // That one was down.
    assert!(!net.ip("-o link show veth1").unwrap().contains("UP"));
}

fn a_bridge_gets_its_port_back(t: &Test) {
    let net = Net::with_device(t);
    t.need(net.ip("link add br0 type bridge").is_some(), "this kernel has no bridges");
    net.set(&["link set veth0 master br0"]);
    let c = with(t, json!({"veth0": {}})).args(&["/no/such/program"]);
    net.call(c.bundle_call("create", &[])).run().fails();
    t.assert_nothing_left();
    assert!(net.ip("-o link show veth0").unwrap().contains("master br0"));
}
