//! The socket calls: batches of datagrams in (`recvmmsg` with UDP GRO) and out (`sendmmsg` with UDP GSO). The one module
//! with `unsafe`; every block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use libc::{c_int, c_void, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

use super::outbox::Outbox;

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
/// Room for one control message of four bytes.
const CONTROL: usize = 32;

/// A non-blocking UDP socket with what the kernel offers.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    v6: bool,
    gso: bool,
    gro: bool,
}

impl Socket {
    /// Takes over a bound socket; probes the kernel for GSO and GRO.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let v6 = socket.local_addr()?.is_ipv6();
        let gro = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        // A segment size of 0 changes nothing, but tells whether the option is known.
        let gso = set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self { socket, v6, gso, gro })
    }

    /// Whether runs leave in one system call.
    pub(crate) fn gso(&self) -> bool {
        self.gso
    }

    /// Whether runs arrive in one message.
    pub(crate) fn gro(&self) -> bool {
        self.gro
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
        for (i, message) in messages.iter().take(batch.count).enumerate() {
            let len = (message.msg_len as usize).min(RECEIVE_BUFFER);
            let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            batch.lengths[i] = if truncated { 0 } else { len };
            batch.segments[i] = segment_size(&message.msg_hdr).filter(|&s| s > 0).unwrap_or(len);
        }
        Ok(batch.count)
    }

    /// Sends everything in `outbox`, runs of equal size through GSO. What the kernel refuses is counted, not repeated.
    /// Datagrams that stand one after another are one piece of memory to the kernel.
    pub(crate) fn send(&mut self, outbox: &Outbox, batch: &mut SendBatch) -> Sent {
        let mut sent = Sent::default();
        batch.clear();
        for (to, datagrams) in outbox.queues() {
            let name = batch.name(to, self.v6);
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
        while done < batch.runs.len() {
            let count = batch.prepare(done);
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
                }
                _ => {
                    let error = io::Error::last_os_error();
                    let run = batch.runs[done];
                    match error.raw_os_error() {
                        Some(libc::EINTR) => continue,
                        // No checksum offload on the way out: segment here from now on, and this run too.
                        Some(libc::EIO | libc::EINVAL) if run.count > 1 => {
                            self.gso = false;
                            batch.split(done);
                            continue;
                        }
                        _ => {}
                    }
                    sent.refused += run.count as u64;
                    done += 1;
                }
            }
        }
    }
}

/// A received datagram: who sent it, and where it stands in the receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) start: usize,
    pub(crate) len: usize,
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
            count: 0,
            datagrams: Vec::with_capacity(8 * RECEIVE_BATCH),
        }
    }

    /// All datagrams of the last call, and the buffer that they stand in.
    pub(crate) fn datagrams(&mut self) -> (&mut [u8], &[Datagram]) {
        self.datagrams.clear();
        for i in 0..self.count {
            let Some(from) = read_name(&self.names[i]) else { continue };
            let (segment, end) = (self.segments[i].max(1), i * RECEIVE_BUFFER + self.lengths[i]);
            let starts = (i * RECEIVE_BUFFER..end).step_by(segment);
            self.datagrams.extend(starts.map(|start| Datagram { from, start, len: segment.min(end - start) }));
        }
        (&mut self.buffers, &self.datagrams)
    }

    /// The datagrams of message `i` with their source.
    pub(crate) fn message(&mut self, i: usize) -> Option<(SocketAddr, impl Iterator<Item = &mut [u8]>)> {
        let from = read_name(&self.names[i])?;
        let buffer = &mut self.buffers[i * RECEIVE_BUFFER..][..self.lengths[i]];
        Some((from, buffer.chunks_mut(self.segments[i].max(1))))
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

/// Buffers for sending.
pub(crate) struct SendBatch {
    names: Vec<(sockaddr_storage, socklen_t)>,
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

    fn name(&mut self, to: SocketAddr, v6: bool) -> usize {
        self.names.push(write_name(to, v6));
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
    fn prepare(&mut self, from: usize) -> usize {
        self.messages.clear();
        self.controls.clear();
        let count = (self.runs.len() - from).min(SEND_BATCH);
        self.controls.resize(count, Control([0; CONTROL]));
        for (i, run) in self.runs[from..from + count].iter().enumerate() {
            let (name, name_length) = &mut self.names[run.name];
            // SAFETY: mmsghdr is plain data for which all zeros is a valid value.
            let mut message: mmsghdr = unsafe { zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = *name_length;
            header.msg_iov = &raw mut self.vectors[run.vector];
            header.msg_iovlen = run.vectors;
            if run.count > 1 {
                let segment = run.segment as u16;
                write_segment_size(header, &mut self.controls[i], segment);
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

fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one c_int from a pointer to one c_int.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast::<c_void>(), length::<c_int>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The GRO segment size among a received message's control data.
fn segment_size(header: &msghdr) -> Option<usize> {
    // SAFETY: the kernel has filled `msg_control` with `msg_controllen` bytes of well-formed control messages; the CMSG
    // functions walk within these bounds. The payload of UDP_GRO is one c_int, read unaligned.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = control.as_ref() {
            if head.cmsg_level == libc::SOL_UDP && head.cmsg_type == libc::UDP_GRO {
                return usize::try_from(libc::CMSG_DATA(control).cast::<c_int>().read_unaligned()).ok();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn write_segment_size(header: &mut msghdr, control: &mut Control, segment: u16) {
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the control buffer is aligned for cmsghdr and CMSG_SPACE(2) bytes fit into its 32; CMSG_FIRSTHDR of such
    // a header is not null, and its data part has room for the u16, written unaligned.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as usize;
        let head: *mut cmsghdr = libc::CMSG_FIRSTHDR(header);
        (*head).cmsg_level = libc::SOL_UDP;
        (*head).cmsg_type = libc::UDP_SEGMENT;
        (*head).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(head).cast::<u16>().write_unaligned(segment);
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
mod tests {
    use super::super::outbox::Slot;
    use super::*;

    fn socket(address: &str) -> (Socket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        (Socket::new(socket).unwrap(), address)
    }

    /// Receives until `count` datagrams came; loopback delivers within the send call.
    fn receive(socket: &Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut batch, mut all) = (ReceiveBatch::new(), Vec::new());
        while all.len() < count {
            let messages = socket.receive(&mut batch).unwrap();
            for i in 0..messages {
                let (from, datagrams) = batch.message(i).unwrap();
                all.extend(datagrams.map(|d| (from, d.to_vec())));
            }
        }
        all
    }

    #[test]
    fn runs_leave_together_and_arrive_whole() {
        let (mut sender, from) = socket("127.0.0.1:0");
        let (receiver, to) = socket("127.0.0.1:0");
        let (other, to_other) = socket("127.0.0.1:0");
        let mut outbox = Outbox::new();
        let (mut slot, mut slot_other) = (Slot::STALE, Slot::STALE);
        let sizes = [1100, 1100, 1100, 900, 1100, 30, 1200, 1200, 1];
        let datagrams: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect();
        for datagram in &datagrams {
            outbox.push(to, &mut slot, datagram);
            outbox.push(to_other, &mut slot_other, &datagram[..1]);
        }
        let sent = sender.send(&outbox, &mut SendBatch::new());
        assert_eq!((sent.datagrams, sent.refused, sent.calls), (18, 0, 1));
        if sender.gso() {
            // 1100 1100 1100 900 | 1100 30 | 1200 1200 1, and nine of one byte
            assert_eq!(sent.runs, 4);
        }
        let expected: Vec<_> = datagrams.iter().map(|d| (from, d.clone())).collect();
        assert_eq!(receive(&receiver, datagrams.len()), expected);
        let expected: Vec<_> = datagrams.iter().map(|d| (from, d[..1].to_vec())).collect();
        assert_eq!(receive(&other, datagrams.len()), expected);
    }

    #[test]
    fn more_than_one_call_holds() {
        let (mut sender, _) = socket("127.0.0.1:0");
        let receivers: Vec<_> = (0..SEND_BATCH + 10).map(|_| socket("127.0.0.1:0")).collect();
        let mut outbox = Outbox::new();
        for i in 0..3u8 {
            for (_, to) in &receivers {
                outbox.push(*to, &mut Slot::STALE.clone(), &[i; 20]);
            }
        }
        let sent = sender.send(&outbox, &mut SendBatch::new());
        assert_eq!((sent.datagrams, sent.refused), (3 * receivers.len() as u64, 0));
        for (receiver, _) in &receivers {
            let payloads: Vec<u8> = receive(receiver, 3).iter().map(|(_, d)| d[0]).collect();
            assert_eq!(payloads, [0, 1, 2]);
        }
    }

    #[test]
    fn a_dual_stack_socket_speaks_ipv4_by_its_own_name() {
        let Ok(bound) = UdpSocket::bind("[::]:0") else { return }; // no IPv6 on this machine
        let port = bound.local_addr().unwrap().port();
        let mut dual = Socket::new(bound).unwrap();
        let (peer, peer_address) = socket("127.0.0.1:0");
        let mut outbox = Outbox::new();
        outbox.push(peer_address, &mut Slot::STALE.clone(), b"hello");
        assert_eq!(dual.send(&outbox, &mut SendBatch::new()).datagrams, 1);
        let from = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(receive(&peer, 1), [(from, b"hello".to_vec())]);
    }

    #[test]
    fn a_refused_destination_does_not_stop_the_others() {
        let (mut sender, _) = socket("127.0.0.1:0");
        let (receiver, to) = socket("127.0.0.1:0");
        let mut outbox = Outbox::new();
        outbox.push("127.0.0.1:0".parse().unwrap(), &mut Slot::STALE.clone(), b"nowhere");
        outbox.push(to, &mut Slot::STALE.clone(), b"there");
        let sent = sender.send(&outbox, &mut SendBatch::new());
        assert_eq!((sent.datagrams, sent.refused), (1, 1));
        assert_eq!(receive(&receiver, 1)[0].1, b"there");
    }
}
