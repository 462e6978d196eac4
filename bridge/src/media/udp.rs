//! The socket calls: batches of datagrams in (`recvmmsg` with UDP GRO) and out (`sendmmsg` with UDP GSO). The one module
//! with `unsafe`; every block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use libc::{
    c_int, c_void, cmsghdr, in_addr, in_pktinfo, in6_addr, in6_pktinfo, iovec, mmsghdr, msghdr, sock_fprog,
    sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t, timespec,
};

use super::outbox::Outbox;
use super::steering;
use crate::transport::five_tuple::FiveTuple;

/// Messages in one receive call; each may hold a run of datagrams (GRO).
const RECEIVE_BATCH: usize = 32;
/// The largest run the kernel hands over.
const RECEIVE_BUFFER: usize = 65_536;
/// Messages in one send call.
const SEND_BATCH: usize = 64;
/// Datagrams in one GSO message (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 64;
/// Bytes in one GSO message: what fits an IPv4 datagram's payload.
const MAX_RUN: usize = 65_507;
/// Room for three control messages: a segment size of up to four bytes (24), an address (40) and a time (32).
const CONTROL: usize = 96;
/// A datagram has not lain with the kernel for longer, or a clock was set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A non-blocking UDP socket with what the kernel offers.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    /// Where it is bound.
    local: SocketAddr,
    /// Bound to all addresses: datagrams are told by which one they came, and leave from the one that is given.
    any: bool,
    gso: bool,
    gro: bool,
}

impl Socket {
    /// Takes over a bound socket; probes the kernel for GSO and GRO.
    ///
    /// # Errors
    /// When the kernel does not tell at which of its addresses datagrams arrive, or refuses something else.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let any = local.ip().is_unspecified();
        if any {
            // On a socket for both, this tells IPv4 addresses too, as mapped ones.
            let (level, name) = match local {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            set_option(&socket, level, name, &c_int::from(true))?;
        }
        // For measuring only: a kernel that does not tell when datagrams came is as good.
        let _ = set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &c_int::from(true));
        let gro = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, &c_int::from(true)).is_ok();
        // A segment size of 0 changes nothing, but tells whether the option is known.
        let gso = set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, &c_int::from(false)).is_ok();
        Ok(Self { socket, local, any, gso, gro })
    }

    /// Where it is bound.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether runs leave in one system call.
    pub(crate) fn gso(&self) -> bool {
        self.gso
    }

    /// Whether runs arrive in one message.
    pub(crate) fn gro(&self) -> bool {
        self.gro
    }

    /// Lets the kernel give what can wait to the second of the sockets that share this one's port (`steering.rs`).
    ///
    /// # Errors
    /// When the kernel cannot.
    pub(crate) fn steer(&self) -> io::Result<()> {
        let mut program = steering::PROGRAM;
        // The kernel copies the program while the call lasts.
        let told = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        set_option(&self.socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &told)
    }

    /// The socket, for polling.
    pub(crate) fn as_raw_fd(&self) -> c_int {
        self.socket.as_raw_fd()
    }

    /// Receives what is there, without waiting; the number of messages now in `batch`.
    pub(crate) fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.count = 0;
        let mut messages: [mmsghdr; RECEIVE_BATCH] = {
            // SAFETY: mmsghdr is plain data for which all zeros is a valid value.
            unsafe { zeroed() }
        };
        let mut vectors: [iovec; RECEIVE_BATCH] = {
            // SAFETY: as above.
            unsafe { zeroed() }
        };
        for (i, message) in messages.iter_mut().enumerate() {
            vectors[i].iov_base = batch.buffers[i * RECEIVE_BUFFER..].as_mut_ptr().cast();
            vectors[i].iov_len = RECEIVE_BUFFER;
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut batch.names[i]).cast();
            header.msg_namelen = length::<sockaddr_storage>();
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut batch.controls[i]).cast();
            header.msg_controllen = size_of::<Control>();
        }
        // SAFETY: every header points to a name, one vector of RECEIVE_BUFFER bytes and a control buffer of the given
        // sizes, each its own, all alive and not otherwise used until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                RECEIVE_BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        batch.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        batch.taken = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for (i, message) in messages.iter().take(batch.count).enumerate() {
            let len = (message.msg_len as usize).min(RECEIVE_BUFFER);
            let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let told = Told::read(&message.msg_hdr);
            batch.lengths[i] = if truncated { 0 } else { len };
            batch.segments[i] = told.segment.filter(|&segment| segment > 0).unwrap_or(len);
            batch.came[i] = told.came;
            batch.locals[i] = told.local.map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        }
        Ok(batch.count)
    }

    /// Sends everything in `outbox`, runs of equal size through GSO. What the kernel refuses is counted, not repeated.
    /// Datagrams that stand one after another are one piece of memory to the kernel.
    pub(crate) fn send(&mut self, outbox: &Outbox, batch: &mut SendBatch) -> Sent {
        let mut sent = Sent::default();
        batch.clear();
        for (to, datagrams) in outbox.queues() {
            let name = batch.name(&to, self);
            let mut datagrams = datagrams.peekable();
            while let Some(first) = datagrams.next() {
                let size = first.len();
                let start = batch.vectors.len();
                batch.vectors.push(vector(first));
                let (mut total, mut count) = (size, 1);
                let most = if self.gso && size > 0 { MAX_SEGMENTS } else { 1 };
                // The last one of a run may be shorter.
                while count < most
                    && let Some(next) = datagrams
                        .next_if(|next| !next.is_empty() && next.len() <= size && total + next.len() <= MAX_RUN)
                {
                    batch.append(next);
                    (total, count) = (total + next.len(), count + 1);
                    if next.len() < size {
                        break;
                    }
                }
                batch.run(name, start, count, size);
            }
        }
        self.flush(batch, &mut sent);
        batch.clear();
        sent
    }

    fn flush(&mut self, batch: &mut SendBatch, sent: &mut Sent) {
        let mut done = 0;
        // A run that was refused is sent datagram by datagram, to see whose fault it was.
        let mut doubted = None;
        while done < batch.runs.len() {
            let count = batch.prepare(done, self.local.is_ipv6());
            // SAFETY: `prepare` made `count` headers which point into `batch.names`, `batch.vectors` and
            // `batch.controls`; none of them is touched until the call returns, and the vectors point into the outbox'
            // arena, which is borrowed for the whole of `send`.
            let result = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), batch.messages.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT)
            };
            sent.calls += 1;
            match usize::try_from(result) {
                Ok(count) if count > 0 => {
                    for run in &batch.runs[done..done + count] {
                        sent.datagrams += run.count as u64;
                        sent.bytes += batch.bytes(*run);
                        sent.runs += 1;
                    }
                    done += count;
                    if let Some(error) = doubted.take() {
                        tracing::warn!(%error, "the network sends no runs (UDP GSO): datagrams leave one by one from now on");
                        self.gso = false;
                    }
                }
                _ => {
                    let error = io::Error::last_os_error();
                    let run = batch.runs[done];
                    match error.raw_os_error() {
                        Some(libc::EINTR) => continue,
                        // No checksum offload on the way out (some containers' interfaces), or no way at all from this
                        // address of ours, which is gone.
                        Some(libc::EIO | libc::EINVAL) if run.count > 1 => {
                            batch.split(done);
                            doubted = Some(error);
                            continue;
                        }
                        _ => doubted = None,
                    }
                    sent.refused += run.count as u64;
                    done += 1;
                }
            }
        }
    }
}

/// A received datagram: on which way it came, and where it stands in the receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: FiveTuple,
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// How long ago it came to this machine, when it was received.
    pub(crate) waited: Duration,
}

/// What became of a batch.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// Datagrams the kernel took.
    pub(crate) datagrams: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// In how many runs (messages).
    pub(crate) runs: u64,
    /// In how many system calls.
    pub(crate) calls: u64,
    /// Datagrams it did not take.
    pub(crate) refused: u64,
}

/// A control buffer, aligned for `cmsghdr`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Buffers for receiving.
pub(crate) struct ReceiveBatch {
    buffers: Box<[u8]>,
    names: Box<[sockaddr_storage; RECEIVE_BATCH]>,
    controls: Box<[Control; RECEIVE_BATCH]>,
    lengths: [usize; RECEIVE_BATCH],
    segments: [usize; RECEIVE_BATCH],
    locals: [SocketAddr; RECEIVE_BATCH],
    came: [Option<Duration>; RECEIVE_BATCH],
    /// When they were received, since the Unix epoch.
    taken: Duration,
    count: usize,
    datagrams: Vec<Datagram>,
}

impl ReceiveBatch {
    /// The most messages that one call receives.
    pub(crate) const MESSAGES: usize = RECEIVE_BATCH;

    pub(crate) fn new() -> Self {
        // SAFETY: sockaddr_storage is plain data for which all zeros is a valid value.
        let name: sockaddr_storage = unsafe { zeroed() };
        Self {
            buffers: vec![0; RECEIVE_BATCH * RECEIVE_BUFFER].into(),
            names: Box::new([name; RECEIVE_BATCH]),
            controls: Box::new([Control([0; CONTROL]); RECEIVE_BATCH]),
            lengths: [0; RECEIVE_BATCH],
            segments: [0; RECEIVE_BATCH],
            locals: [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0); RECEIVE_BATCH],
            came: [None; RECEIVE_BATCH],
            taken: Duration::ZERO,
            count: 0,
            datagrams: Vec::with_capacity(8 * RECEIVE_BATCH),
        }
    }

    /// All datagrams of the last call, and the buffer that they stand in.
    pub(crate) fn datagrams(&mut self) -> (&mut [u8], &[Datagram]) {
        self.datagrams.clear();
        for i in 0..self.count {
            let Some(remote) = read_name(&self.names[i]) else { continue };
            let from = FiveTuple::udp(self.locals[i], remote);
            let (segment, end) = (self.segments[i].max(1), i * RECEIVE_BUFFER + self.lengths[i]);
            let waited = self.came[i].map_or(Duration::ZERO, |came| self.taken.saturating_sub(came)).min(LONGEST_WAIT);
            let starts = (i * RECEIVE_BUFFER..end).step_by(segment);
            let datagram = |start| Datagram { from, start, len: segment.min(end - start), waited };
            self.datagrams.extend(starts.map(datagram));
        }
        (&mut self.buffers, &self.datagrams)
    }

    /// The first datagram of the last call, if it received any.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        (self.count > 0).then(|| &self.buffers[..self.lengths[0].min(self.segments[0])])
    }

    /// When the messages of the last call came to this machine, since the Unix epoch, and how many datagrams each has; without
    /// those of which the kernel did not tell.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = (Duration, u64)> {
        (0..self.count).filter_map(|i| Some((self.came[i]?, self.lengths[i].div_ceil(self.segments[i].max(1)) as u64)))
    }
}

#[derive(Clone, Copy)]
struct Run {
    name: usize,
    /// Its pieces of memory.
    vector: usize,
    vectors: usize,
    /// Its datagrams, of `segment` bytes each but for the last.
    count: usize,
    segment: usize,
}

/// Where a queue of datagrams goes, as the kernel wants it.
struct Name {
    to: sockaddr_storage,
    len: socklen_t,
    /// Which of our addresses it leaves from; `None` where there is no choice.
    from: Option<IpAddr>,
}

/// Buffers for sending.
pub(crate) struct SendBatch {
    names: Vec<Name>,
    vectors: Vec<iovec>,
    runs: Vec<Run>,
    controls: Vec<Control>,
    messages: Vec<mmsghdr>,
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        Self {
            names: Vec::with_capacity(256),
            vectors: Vec::with_capacity(4096),
            runs: Vec::with_capacity(1024),
            controls: Vec::with_capacity(SEND_BATCH),
            messages: Vec::with_capacity(SEND_BATCH),
        }
    }

    /// Pointers of an earlier outbox are gone after this.
    fn clear(&mut self) {
        self.messages.clear();
        self.names.clear();
        self.vectors.clear();
        self.runs.clear();
    }

    fn name(&mut self, to: &FiveTuple, by: &Socket) -> usize {
        let from = Some(to.local.ip()).filter(|ip| by.any && !ip.is_unspecified());
        let (to, len) = write_name(to.remote, by.local.is_ipv6());
        self.names.push(Name { to, len, from });
        self.names.len() - 1
    }

    /// One more datagram of the run that is being put together.
    fn append(&mut self, datagram: &[u8]) {
        let next = vector(datagram);
        match self.vectors.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == next.iov_base => {
                last.iov_len += next.iov_len;
            }
            _ => self.vectors.push(next),
        }
    }

    fn run(&mut self, name: usize, vector: usize, count: usize, segment: usize) {
        self.runs.push(Run { name, vector, vectors: self.vectors.len() - vector, count, segment });
    }

    /// A run's bytes.
    fn bytes(&self, run: Run) -> u64 {
        self.vectors[run.vector..run.vector + run.vectors].iter().map(|piece| piece.iov_len as u64).sum()
    }

    /// Makes run `at` into single datagrams.
    fn split(&mut self, at: usize) {
        let run = self.runs[at];
        let first = self.vectors.len();
        for piece in run.vector..run.vector + run.vectors {
            let iovec { mut iov_base, iov_len: mut left } = self.vectors[piece];
            while left > 0 {
                let len = left.min(run.segment);
                self.vectors.push(iovec { iov_base, iov_len: len });
                (iov_base, left) = (iov_base.wrapping_byte_add(len), left - len);
            }
        }
        let singles = (first..self.vectors.len()).map(|vector| Run { vector, vectors: 1, count: 1, ..run });
        self.runs.splice(at..=at, singles);
    }

    /// Headers for the runs from `from` on, at most SEND_BATCH; their number.
    fn prepare(&mut self, from: usize, v6: bool) -> usize {
        self.messages.clear();
        self.controls.clear();
        let count = (self.runs.len() - from).min(SEND_BATCH);
        self.controls.resize(count, Control([0; CONTROL]));
        for (i, run) in self.runs[from..from + count].iter().enumerate() {
            let name = &mut self.names[run.name];
            // SAFETY: mmsghdr is plain data for which all zeros is a valid value.
            let mut message: mmsghdr = unsafe { zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut name.to).cast();
            header.msg_namelen = name.len;
            header.msg_iov = &raw mut self.vectors[run.vector];
            header.msg_iovlen = run.vectors;
            if run.count > 1 {
                tell(header, &mut self.controls[i], (libc::SOL_UDP, libc::UDP_SEGMENT), run.segment as u16);
            }
            if let Some(ip) = name.from {
                tell_source(header, &mut self.controls[i], ip, v6);
            }
            self.messages.push(message);
        }
        count
    }
}

fn vector(datagram: &[u8]) -> iovec {
    iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() }
}

fn length<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

/// Sets an option whose value is a `T`, which is what the kernel reads for it.
fn set_option<T>(socket: &UdpSocket, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told from a pointer to a `T` of that size.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast::<c_void>(), length::<T>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel tells about a received message.
#[derive(Default)]
struct Told {
    /// The length of each of its datagrams but the last (GRO).
    segment: Option<usize>,
    /// At which of our addresses it came.
    local: Option<IpAddr>,
    /// When it came, since the Unix epoch.
    came: Option<Duration>,
}

impl Told {
    fn read(header: &msghdr) -> Self {
        let mut told = Self::default();
        // SAFETY: the kernel has filled `msg_control` with `msg_controllen` bytes of well-formed control messages; the CMSG
        // functions walk within these bounds. What stands in each is of the type that its level and kind say, and is read
        // unaligned.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(header);
            while let Some(head) = control.as_ref() {
                let data = libc::CMSG_DATA(control);
                match (head.cmsg_level, head.cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        told.segment = usize::try_from(data.cast::<c_int>().read_unaligned()).ok();
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let timespec { tv_sec, tv_nsec } = data.cast::<timespec>().read_unaligned();
                        let since = u64::try_from(tv_sec).ok().zip(u32::try_from(tv_nsec).ok());
                        told.came = since.map(|(seconds, nanos)| Duration::new(seconds, nanos));
                    }
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<in_pktinfo>().read_unaligned();
                        told.local = Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<in6_pktinfo>().read_unaligned();
                        told.local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical());
                    }
                    _ => {}
                }
                control = libc::CMSG_NXTHDR(header, control);
            }
        }
        told
    }
}

/// Appends a control message to a message that is to be sent.
fn tell<T: Copy>(header: &mut msghdr, control: &mut Control, (level, kind): (c_int, c_int), value: T) {
    let (start, size) = (header.msg_controllen, size_of::<T>() as u32);
    // SAFETY: only arithmetic.
    let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size) as usize) };
    if start + space > CONTROL {
        return;
    }
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = start + space;
    // SAFETY: `space` bytes from `start` on lie within the control buffer, which is aligned for cmsghdr, as `start` is: a
    // sum of CMSG_SPACEs. The data part behind the head has room for the value, written unaligned.
    unsafe {
        let head: *mut cmsghdr = control.0.as_mut_ptr().add(start).cast();
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = len;
        libc::CMSG_DATA(head).cast::<T>().write_unaligned(value);
    }
}

/// Says which of our addresses a message is to leave from.
fn tell_source(header: &mut msghdr, control: &mut Control, ip: IpAddr, v6: bool) {
    match ip {
        IpAddr::V4(ip) if !v6 => {
            let address = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: in_addr { s_addr: 0 } };
            tell(header, control, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        _ => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            tell(header, control, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
    }
}

fn write_name(to: SocketAddr, v6: bool) -> (sockaddr_storage, socklen_t) {
    // SAFETY: sockaddr_storage is plain data for which all zeros is a valid value.
    let mut storage: sockaddr_storage = unsafe { zeroed() };
    let to = match to {
        SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    };
    let len = match to {
        SocketAddr::V4(v4) => {
            // SAFETY: sockaddr_storage is larger than and aligned for every sockaddr type.
            let name = unsafe { &mut *(&raw mut storage).cast::<sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = v4.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            length::<sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let name = unsafe { &mut *(&raw mut storage).cast::<sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_flowinfo = v6.flowinfo();
            name.sin6_scope_id = v6.scope_id();
            length::<sockaddr_in6>()
        }
    };
    (storage, len)
}

/// The address, IPv4-mapped ones as IPv4.
fn read_name(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in.
            let name = unsafe { &*(&raw const *storage).cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let name = unsafe { &*(&raw const *storage).cast::<sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
