//! Which of the two sockets on a worker's port a datagram comes to.
//!
//! Every subscriber reports many times a second what it got. Forty of them wake a worker a thousand times a second for
//! nothing that could not wait for its next tick, and a wake-up costs more than the report. So what can wait has a socket
//! of its own, which nobody polls: the kernel tells the two apart by a datagram's first bytes, with a program of classic
//! BPF (Linux, `socket(7)`, `SO_ATTACH_REUSEPORT_CBPF`). SRTCP leaves these bytes in clear (RFC 3711 §3.4).

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, sock_filter};

/// RTCP's version (RFC 3550 §6.4.1) in the first byte, and where it stands.
const VERSION: u8 = 0x80;
const VERSION_BITS: u8 = 0xc0;
/// Version and format 15 in the first byte, whether padded or not: of transport feedback it is the transport-wide one, of
/// payload-specific feedback REMB.
const ESTIMATE: u8 = VERSION | 15;
const ESTIMATE_BITS: u8 = VERSION_BITS | 31;
/// RTCP's packet types (RFC 3550 §12.1, RFC 4585 §6.1).
const RECEIVER_REPORT: u8 = 201;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// Whether a datagram can wait: RTCP that begins with a receiver report, transport-wide feedback or REMB. What asks for
/// packets, for key frames, or tells a publisher's clock does not wait, unless it stands behind such a report.
pub(crate) fn can_wait(datagram: &[u8]) -> bool {
    match *datagram {
        [first, RECEIVER_REPORT, ..] => first & VERSION_BITS == VERSION,
        [first, TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK, ..] => first & ESTIMATE_BITS == ESTIMATE,
        _ => false,
    }
}

/// The same for the kernel, which takes the socket's number from it: 1 for what can wait, else 0. A byte beyond a
/// datagram's end lets it give 0, too.
pub(crate) const PROGRAM: [sock_filter; 12] = [
    load(1),
    unless(RECEIVER_REPORT, 3),
    load(0),
    and(VERSION_BITS),
    when(VERSION, 6, 5),
    when(TRANSPORT_FEEDBACK, 1, 0),
    unless(PAYLOAD_FEEDBACK, 3),
    load(0),
    and(ESTIMATE_BITS),
    when(ESTIMATE, 1, 0),
    give(0),
    give(1),
];

/// Loads a byte.
const fn load(at: u32) -> sock_filter {
    statement(BPF_LD | BPF_B | BPF_ABS, at)
}

/// Keeps these bits of it.
const fn and(bits: u8) -> sock_filter {
    statement(BPF_ALU | BPF_AND | BPF_K, bits as u32)
}

/// Skips so many steps if it is `value`, and so many if not.
const fn when(value: u8, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { jt: then, jf: otherwise, ..statement(BPF_JMP | BPF_JEQ | BPF_K, value as u32) }
}

/// Skips so many steps if it is not `value`.
const fn unless(value: u8, otherwise: u8) -> sock_filter {
    when(value, 0, otherwise)
}

/// Ends.
const fn give(socket: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, socket)
}

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_how_the_line_is_can_wait() {
        for (datagram, waits) in [
            (&[0x81, 201, 0, 7][..], true),
            (&[0x8f, 205, 0, 7], true),
            (&[0xaf, 205, 0, 7], true),
            (&[0x8f, 206, 0, 7], true),
            (&[0x81, 200, 0, 7], false),  // a sender report
            (&[0x81, 205, 0, 7], false),  // NACK
            (&[0x81, 206, 0, 7], false),  // PLI
            (&[0x84, 206, 0, 7], false),  // FIR
            (&[0x90, 96, 0, 7], false),   // RTP
            (&[0x00, 0x01, 0, 7], false), // STUN
            (&[0x16, 0xfe, 0xfd], false), // DTLS
            (&[0x01, 201], false),
            (&[0x81], false),
            (&[], false),
        ] {
            assert_eq!(can_wait(datagram), waits, "{datagram:x?}");
        }
    }
}
