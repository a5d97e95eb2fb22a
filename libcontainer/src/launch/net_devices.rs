//! Moving network devices into the container's network namespace, and back out if the container comes to nothing
//! (config-linux.md "Network Devices").
//!
//! The kernel carries a device over with its MTU and hardware address, but takes its addresses and routes away and sets
//! it down. They are read before and given again behind. Once the container is made its devices belong to its network
//! namespace: the runtime MUST NOT take them out of it, and the kernel puts hardware back when it ends. Only a launch
//! that fails moves them back, with their names, because the end of the namespace would destroy virtual ones.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::NetDeviceOp;
use crate::sys::clone::setns;
use crate::sys::fd;
use crate::sys::netlink::{Answer, Refusal, Request, Socket};

/// Lengths of the fixed parts of rtnetlink's messages (rtnetlink(7)): ifinfomsg, ifaddrmsg, rtmsg.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;

/// Flags of an address that are properties, not states: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
const ADDRESS_FLAGS: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;
/// rtnetlink(7): the next hop is on the link, whatever the addresses say.
const ON_LINK: u32 = 4;

/// One network namespace, as seen from the runtime.
#[derive(Debug)]
struct Side {
    socket: Socket,
    namespace: OwnedFd,
}

/// A device as it was before it was moved.
#[derive(Debug)]
struct Device {
    host_name: String,
    /// Once the number of a template is known.
    name: String,
    index: i32,
    up: bool,
    /// Index of the bridge or bond it belonged to; 0 for none.
    master: u32,
    addresses: Vec<Request>,
    routes: Vec<Request>,
}

/// The devices that were moved in.
#[derive(Debug)]
pub(super) struct Moved {
    host: Side,
    inside: Side,
    devices: Vec<Device>,
}

impl Moved {
    /// Moves `devices` into the network namespace of `pid`. Those moved before an error are in `moved` all the same.
    ///
    /// # Errors
    /// Naming the device: there is none of that name, the name is taken inside, it cannot be moved.
    pub(super) fn move_in(
        devices: &[NetDeviceOp],
        pid: Pid,
        moved: &mut Option<Self>,
        log: &dyn Log,
    ) -> Result<()> {
        let own = open_namespace("/proc/self/ns/net")?;
        let target = open_namespace(&format!("/proc/{pid}/ns/net"))?;
        refuse_own(own.as_fd(), target.as_fd())?;
        let outside = Socket::open().doing("open a netlink socket")?;
        let inside = Side { socket: socket_in(target.as_fd(), own.as_fd())?, namespace: target };
        let host = Side { socket: outside, namespace: own };
        let moved = moved.insert(Self { host, inside, devices: Vec::new() });
        devices.iter().try_for_each(|op| moved.move_one(op, log).map_err(|e| e.field(op.field())))
    }

    fn move_one(&mut self, op: &NetDeviceOp, log: &dyn Log) -> Result<()> {
        let link = self.host.socket.link(&op.host_name).map_err(|refusal| {
            let error = failed("find the network device", &op.host_name, refusal);
            error.hint("it has to be in the runtime's own network namespace")
        })?;
        let name = self.name_inside(&op.name)?;
        let mut device = Device {
            host_name: op.host_name.clone(),
            name,
            index: link.index,
            up: link.up,
            master: link.master,
            addresses: Vec::new(),
            routes: Vec::new(),
        };
        device.addresses = self.host.socket.addresses(link.index).map_err(|refusal| {
            failed("read the addresses of the network device", &op.host_name, refusal)
        })?;
        device.routes = self.host.socket.routes(link.index).map_err(|refusal| {
            failed("read the routes of the network device", &op.host_name, refusal)
        })?;
        // Before it is tried: a device may go half of the way, into the namespace but not to its new name.
        let device = {
            self.devices.push(device);
            self.devices.last().ok_or_else(|| Error::internal("no device"))?
        };
        let target = self.inside.namespace.as_fd();
        self.host.socket.change_namespace(device.index, target, &device.name).map_err(
            |refusal| {
                let immovable = refusal.errno == Errno::EINVAL;
                let error = failed("move the network device", &op.host_name, refusal);
                if immovable {
                    error.hint(
                        "some are tied to their namespace: lo, tunnels' fallback devices, Wi-Fi",
                    )
                } else {
                    error
                }
            },
        )?;
        let inside = &mut self.inside.socket;
        let lost = |refusal| failed("find the moved network device", &device.name, refusal);
        let link = inside.link(&device.name).map_err(lost)?;
        inside.settle(device, link.index, true, log)
    }

    /// The name itself if it is free inside; for a template the first number that is.
    fn name_inside(&mut self, name: &str) -> Result<String> {
        let mut is_free = |name: &str| match self.inside.socket.link(name) {
            Err(Refusal { errno: Errno::ENODEV, .. }) => Ok(true),
            Err(refusal) => Err(failed("look for the network device", name, refusal)),
            Ok(_) => Ok(false),
        };
        if !name.contains("%d") {
            if is_free(name)? {
                return Ok(name.to_owned());
            }
            return Err(Error::os(format!("move a network device to the name {name:?}"), Errno::EEXIST)
                .hint("the container's network namespace has one already; give another, or a template such as eth%d"));
        }
        // As many as the kernel itself tries.
        for number in 0..=32_767 {
            let candidate = name.replacen("%d", &number.to_string(), 1);
            if candidate.len() > libc::IFNAMSIZ - 1 {
                break;
            }
            if is_free(&candidate)? {
                return Ok(candidate);
            }
        }
        Err(Error::os(format!("find a free name for {name:?}"), Errno::ENFILE))
    }

    /// Moves all of them back out, to their old names, addresses and routes. What cannot be is a warning.
    pub(super) fn move_back(mut self, log: &dyn Log) {
        while let Some(device) = self.devices.pop() {
            if let Err(error) = self.move_one_back(&device, log) {
                log.warn(&format!("clean up: {error}"));
            }
        }
    }

    fn move_one_back(&mut self, device: &Device, log: &dyn Log) -> Result<()> {
        let host = &mut self.host.socket;
        if host.link(&device.host_name).is_ok_and(|link| link.index == device.index) {
            return Ok(());
        }
        let inside = &mut self.inside.socket;
        let link = match inside.link(&device.name) {
            Err(_) => inside.link(&device.host_name),
            found => found,
        };
        let lost = |refusal| failed("move the network device back", &device.host_name, refusal);
        let index = link.map_err(lost)?.index;
        let target = self.host.namespace.as_fd();
        inside.change_namespace(index, target, &device.host_name).map_err(lost)?;
        let index = host.link(&device.host_name).map_err(lost)?.index;
        if device.master != 0 {
            host.set_master(index, device.master).map_err(lost)?;
        }
        host.settle(device, index, device.up, log)
    }
}

fn open_namespace(path: &str) -> Result<OwnedFd> {
    let name = CString::new(path).unwrap_or_default();
    fd::openat(fd::CWD, &name, libc::O_RDONLY, 0).on("open the network namespace", path)
}

/// Moved into the namespace it is in already, a device would lose its addresses for nothing.
fn refuse_own(own: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let identity = |namespace| fd::stat(namespace, c"").doing("stat the network namespace");
    let (own, target) = (identity(own)?, identity(target)?);
    if (own.ino, own.dev) == (target.ino, target.dev) {
        return Err(Error::config(
            "unable to move network devices: the container's network namespace is the runtime's own",
        )
        .field("linux.netDevices"));
    }
    Ok(())
}

/// A netlink socket belongs to the namespace it is made in.
fn socket_in(target: BorrowedFd<'_>, own: BorrowedFd<'_>) -> Result<Socket> {
    setns(target, libc::CLONE_NEWNET).doing("enter the container's network namespace")?;
    let socket = Socket::open();
    setns(own, libc::CLONE_NEWNET).doing("go back to the runtime's network namespace")?;
    socket.doing("open a netlink socket")
}

fn failed(operation: &str, name: &str, refusal: Refusal) -> Error {
    let error = Error::os(format!("{operation} {name:?}"), refusal.errno);
    if refusal.said.is_empty() { error } else { error.hint(refusal.said) }
}

/// What there is to know of a device.
struct Link {
    index: i32,
    up: bool,
    master: u32,
}

impl Link {
    fn read(answer: &Answer) -> Option<Self> {
        let [_, _, _, _, a, b, c, d, e, f, g, h, ..] = answer.fixed::<LINK>()?;
        let flags = u32::from_ne_bytes([e, f, g, h]);
        let master = answer.attributes(LINK).find(|(kind, _)| *kind == libc::IFLA_MASTER);
        Some(Self {
            index: i32::from_ne_bytes([a, b, c, d]),
            up: flags & libc::IFF_UP.unsigned_abs() != 0,
            master: master.and_then(|(_, value)| number(value)).unwrap_or(0),
        })
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|value| u32::from_ne_bytes(*value))
}

/// struct ifinfomsg for the device `index`, with the flags that are to be set.
fn link_message(index: i32, flags: u32) -> [u8; LINK] {
    let ([a, b, c, d], [e, f, g, h]) = (index.to_ne_bytes(), flags.to_ne_bytes());
    // Twice: what they are to be, and which are meant.
    [0, 0, 0, 0, a, b, c, d, e, f, g, h, e, f, g, h]
}

impl Socket {
    fn link(&mut self, name: &str) -> Result<Link, Refusal> {
        let request =
            Request::new(libc::RTM_GETLINK, 0, &[0; LINK]).with_name(libc::IFLA_IFNAME, name);
        let answers = self.ask(&request)?;
        Ok(answers.first().and_then(Link::read).ok_or(Errno::ENODEV)?)
    }

    /// Moves and renames it in one step, or as nearly as this kernel can.
    fn change_namespace(
        &mut self,
        index: i32,
        target: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), Refusal> {
        let request = Request::new(libc::RTM_NEWLINK, 0, &link_message(index, 0))
            .with(libc::IFLA_NET_NS_FD, &target.as_raw_fd().to_ne_bytes())
            .with_name(libc::IFLA_IFNAME, name);
        self.ask(&request).map(drop)
    }

    fn set_up(&mut self, index: i32) -> Result<(), Refusal> {
        let up = link_message(index, libc::IFF_UP.unsigned_abs());
        self.ask(&Request::new(libc::RTM_NEWLINK, 0, &up)).map(drop)
    }

    fn set_master(&mut self, index: i32, master: u32) -> Result<(), Refusal> {
        let request = Request::new(libc::RTM_NEWLINK, 0, &link_message(index, 0))
            .with(libc::IFLA_MASTER, &master.to_ne_bytes());
        self.ask(&request).map(drop)
    }

    /// Requests that give the addresses of the device `index` again.
    fn addresses(&mut self, index: i32) -> Result<Vec<Request>, Refusal> {
        let [a, b, c, d] = index.to_ne_bytes();
        let message: [u8; ADDRESS] = [0, 0, 0, 0, a, b, c, d];
        let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &message);
        Ok(self.ask(&request)?.iter().filter_map(|answer| address(answer, index)).collect())
    }

    /// Requests that give the routes through the device `index` again, those without a gateway first.
    fn routes(&mut self, index: i32) -> Result<Vec<Request>, Refusal> {
        let mut list = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).unwrap_or_default();
            let request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &[0; ROUTE])
                .with_fixed(0, &[family])
                .with(libc::RTA_OIF, &index.to_ne_bytes());
            match self.ask(&request) {
                // A kernel without that family.
                Err(Refusal { errno: Errno::EOPNOTSUPP, .. }) => {}
                other => list.extend(other?.iter().filter_map(|answer| route(answer, index))),
            }
        }
        list.sort_by_key(|(through_gateway, _)| *through_gateway);
        Ok(list.into_iter().map(|(_, request)| request).collect())
    }

    /// Gives the device, now called `index`, what it had.
    fn settle(&mut self, device: &Device, index: i32, up: bool, log: &dyn Log) -> Result<()> {
        for address in &device.addresses {
            self.ask(&address.clone().with_fixed(4, &index.to_ne_bytes())).map_err(|refusal| {
                failed("keep an address of the network device", &device.host_name, refusal)
            })?;
        }
        if !up {
            return Ok(());
        }
        self.set_up(index)
            .map_err(|refusal| failed("set up the network device", &device.host_name, refusal))?;
        for route in &device.routes {
            match self.ask(&route.clone().with(libc::RTA_OIF, &index.to_ne_bytes())) {
                // The address has brought it along, or the namespace has it by another device.
                Ok(_) | Err(Refusal { errno: Errno::EEXIST, .. }) => {}
                // The specification does not ask for routes.
                Err(refusal) => log.warn(
                    &failed("keep a route of the network device", &device.host_name, refusal)
                        .to_string(),
                ),
            }
        }
        Ok(())
    }
}

/// The request that makes the address of `answer`, if it is one to keep: permanent and global.
fn address(answer: &Answer, index: i32) -> Option<Request> {
    let [family, prefix, few, scope, a, b, c, d] = answer.fixed::<ADDRESS>()?;
    let all = || answer.attributes(ADDRESS);
    let flags = all().find(|(kind, _)| *kind == libc::IFA_FLAGS).and_then(|(_, v)| number(v));
    let flags = flags.unwrap_or_else(|| u32::from(few));
    let kept = flags & libc::IFA_F_PERMANENT != 0
        && scope == libc::RT_SCOPE_UNIVERSE
        && i32::from_ne_bytes([a, b, c, d]) == index;
    if !kept {
        return None;
    }
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request =
        Request::new(libc::RTM_NEWADDR, create, &[family, prefix, 0, scope, 0, 0, 0, 0])
            .with(libc::IFA_FLAGS, &(flags & ADDRESS_FLAGS).to_ne_bytes());
    // Not the label, which begins with the old name.
    let kinds = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, IFA_RT_PRIORITY];
    for (kind, value) in all().filter(|(kind, _)| kinds.contains(kind)) {
        request = request.with(kind, value);
    }
    Some(request)
}

/// linux/if_addr.h; the metric of the route an address brings along.
const IFA_RT_PRIORITY: u16 = 9;

/// The request that makes the route of `answer`, and whether it leads through a gateway; if it is one to keep: somebody
/// has set it, in the main table, and it leads through the device `index` alone.
fn route(answer: &Answer, index: i32) -> Option<(bool, Request)> {
    let message = answer.fixed::<ROUTE>()?;
    let [_, _, _, _, table, protocol, _, kind, a, b, c, d] = message;
    let flags = u32::from_ne_bytes([a, b, c, d]);
    let all = || answer.attributes(ROUTE);
    let through = all().find(|(kind, _)| *kind == libc::RTA_OIF).and_then(|(_, v)| number(v));
    let kept = table == libc::RT_TABLE_MAIN
        && kind == libc::RTN_UNICAST
        && ![libc::RTPROT_KERNEL, libc::RTPROT_REDIRECT, RTPROT_RA].contains(&protocol)
        && flags & libc::RTM_F_CLONED == 0
        && through == u32::try_from(index).ok();
    if !kept {
        return None;
    }
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWROUTE, create, &message)
        .with_fixed(8, &(flags & ON_LINK).to_ne_bytes());
    let state = [libc::RTA_OIF, libc::RTA_CACHEINFO, libc::RTA_TABLE];
    for (kind, value) in all().filter(|(kind, _)| !state.contains(kind)) {
        request = request.with(kind, value);
    }
    Some((all().any(|(kind, _)| kind == libc::RTA_GATEWAY || kind == RTA_VIA), request))
}

/// linux/rtnetlink.h: a gateway of the other address family.
const RTA_VIA: u16 = 18;
/// linux/rtnetlink.h: from router advertisements.
const RTPROT_RA: u8 = 9;
