//! RTP headers on the wire (RFC 3550 §5.1) and their extensions (RFC 8285): reading without copying, writing without
//! allocating.

use super::control::ExtensionIds;

/// The fixed RTP header, bytes.
pub(crate) const FIXED: usize = 12;

/// The P bit in the first byte.
pub(crate) const PADDING: u8 = 0x20;

/// What an RTP header says. Offsets refer to the packet it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) padding: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// The whole header with CSRCs and extensions, bytes.
    pub(crate) len: usize,
    form: Form,
    /// Where the extension elements stand.
    elements: (u16, u16),
}

/// The two encodings of RFC 8285.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    None,
    OneByte,
    TwoByte,
}

impl Header {
    /// Reads a header; `None` when the bytes are no RTP packet.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut len = FIXED + 4 * usize::from(fixed[0] & 0x0f);
        let (mut form, mut elements) = (Form::None, (0, 0));
        if fixed[0] & 0x10 != 0 {
            let head: &[u8; 4] = packet.get(len..)?.first_chunk()?;
            let profile = u16::from_be_bytes([head[0], head[1]]);
            let start = len + 4;
            len = start + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            form = match profile {
                0xbede => Form::OneByte,
                0x1000..=0x100f => Form::TwoByte,
                _ => Form::None,
            };
            elements = (u16::try_from(start).ok()?, u16::try_from(len).ok()?);
        }
        if len > packet.len() {
            return None;
        }
        Some(Self {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & PADDING != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            len,
            form,
            elements,
        })
    }

    /// The extension elements of the packet this header was read from, as (id, value).
    pub(crate) fn elements<'a>(&self, packet: &'a [u8]) -> Elements<'a> {
        let (start, end) = (usize::from(self.elements.0), usize::from(self.elements.1));
        let rest = if self.form == Form::None { &[][..] } else { packet.get(start..end).unwrap_or_default() };
        Elements { two_byte: self.form == Form::TwoByte, rest }
    }
}

/// Iterates over (id, value).
pub(crate) struct Elements<'a> {
    two_byte: bool,
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                self.rest = rest; // padding
                continue;
            }
            let (id, len, rest) = if self.two_byte {
                let (&len, rest) = rest.split_first()?;
                (first, usize::from(len), rest)
            } else {
                if first >> 4 == 15 {
                    return None; // RFC 8285 §4.2: stop here
                }
                (first >> 4, usize::from(first & 0x0f) + 1, rest)
            };
            if len > rest.len() {
                self.rest = &[];
                return None;
            }
            let (value, rest) = rest.split_at(len);
            self.rest = rest;
            return Some((id, value));
        }
    }
}

/// The extensions that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    Mid = 1,
    Rid,
    RepairedRid,
    AudioLevel,
    Twcc,
    DependencyDescriptor,
    AbsCaptureTime,
    PlayoutDelay,
    VideoOrientation,
}

/// One transport's meaning of every extension id, as a table.
pub(crate) struct ExtensionMap([Option<Extension>; 256]);

impl ExtensionMap {
    pub(crate) fn new(ids: &ExtensionIds) -> Self {
        let mut map = [None; 256];
        for (id, extension) in [
            (ids.mid, Extension::Mid),
            (ids.rid, Extension::Rid),
            (ids.repaired_rid, Extension::RepairedRid),
            (ids.audio_level, Extension::AudioLevel),
            (ids.twcc, Extension::Twcc),
            (ids.dependency_descriptor, Extension::DependencyDescriptor),
            (ids.abs_capture_time, Extension::AbsCaptureTime),
            (ids.playout_delay, Extension::PlayoutDelay),
            (ids.video_orientation, Extension::VideoOrientation),
        ] {
            if id != 0 {
                map[usize::from(id)] = Some(extension);
            }
        }
        Self(map)
    }
}

/// The known extension values of one packet.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) mid: Option<&'a [u8]>,
    pub(crate) rid: Option<&'a [u8]>,
    pub(crate) repaired_rid: Option<&'a [u8]>,
    /// RFC 6464: bit 7 voice activity, bits 0–6 −dBov.
    pub(crate) audio_level: Option<&'a [u8]>,
    pub(crate) twcc: Option<u16>,
    pub(crate) dependency_descriptor: Option<&'a [u8]>,
    pub(crate) abs_capture_time: Option<&'a [u8]>,
    pub(crate) playout_delay: Option<&'a [u8]>,
    pub(crate) video_orientation: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    /// Whether nothing of it is passed on to subscribers, as with most packets of VP8 and H.264.
    pub(crate) fn is_bare(&self) -> bool {
        self.audio_level.is_none()
            && self.dependency_descriptor.is_none()
            && self.abs_capture_time.is_none()
            && self.playout_delay.is_none()
            && self.video_orientation.is_none()
    }

    pub(crate) fn read(map: &ExtensionMap, header: &Header, packet: &'a [u8]) -> Self {
        let mut values = Self::default();
        for (id, value) in header.elements(packet) {
            match map.0[usize::from(id)] {
                Some(Extension::Mid) => values.mid = Some(value),
                Some(Extension::Rid) => values.rid = Some(value),
                Some(Extension::RepairedRid) => values.repaired_rid = Some(value),
                Some(Extension::AudioLevel) => values.audio_level = Some(value),
                Some(Extension::Twcc) => values.twcc = value.first_chunk().map(|c| u16::from_be_bytes(*c)),
                Some(Extension::DependencyDescriptor) => values.dependency_descriptor = Some(value),
                Some(Extension::AbsCaptureTime) => values.abs_capture_time = Some(value),
                Some(Extension::PlayoutDelay) => values.playout_delay = Some(value),
                Some(Extension::VideoOrientation) => values.video_orientation = Some(value),
                None => {}
            }
        }
        values
    }
}

/// What goes into an outgoing fixed header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Outgoing {
    /// The fixed header (RFC 3550 §5.1) with or without the bit that says that extensions follow.
    fn fixed(&self, extended: bool) -> [u8; FIXED] {
        let mut fixed = [0; FIXED];
        fixed[0] = if extended { 0x90 } else { 0x80 };
        fixed[1] = self.payload_type | u8::from(self.marker) << 7;
        fixed[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        fixed
    }

    /// Appends the header of a packet whose only extensions are the receiver's own: what [`OutgoingExtensions`] would
    /// write, in a third of the time.
    pub(crate) fn write_bare(&self, ids: &ExtensionIds, mid: &[u8], number: Option<[u8; 2]>, out: &mut Vec<u8>) {
        /// Fixed header, extension header, mid with its head, number with its head, padding.
        const ROOM: usize = FIXED + 4 + 9 + 3 + 3;
        let short = (1..=14).contains(&ids.mid) && ids.twcc <= 14 && (1..=8).contains(&mid.len());
        if !short {
            let values = Values::default();
            OutgoingExtensions::new(ids, mid, number.as_ref(), &values).write(self, out);
            return;
        }
        let mut all = [0; ROOM];
        all[..FIXED].copy_from_slice(&self.fixed(true));
        let mut at = FIXED + 4;
        all[at] = ids.mid << 4 | (mid.len() as u8 - 1);
        all[at + 1..=at + mid.len()].copy_from_slice(mid);
        at += 1 + mid.len();
        if let Some([high, low]) = number.filter(|_| ids.twcc != 0) {
            all[at..at + 3].copy_from_slice(&[ids.twcc << 4 | 1, high, low]);
            at += 3;
        }
        let words = (at - FIXED - 4).div_ceil(4);
        all[FIXED..FIXED + 4].copy_from_slice(&[0xbe, 0xde, 0, words as u8]);
        out.extend_from_slice(&all[..FIXED + 4 + 4 * words]);
    }
}

/// At most so many extensions on an outgoing packet.
pub(crate) const MAX_OUTGOING_EXTENSIONS: usize = 7;

/// A packet's extensions as they leave: ids of the receiving transport, values of the incoming packet.
#[derive(Default)]
pub(crate) struct OutgoingExtensions<'a> {
    list: [(u8, &'a [u8]); MAX_OUTGOING_EXTENSIONS],
    len: usize,
    bytes: usize,
    two_byte: bool,
}

impl<'a> OutgoingExtensions<'a> {
    /// What is passed through, plus the receiver's own mid and transport-wide sequence number.
    pub(crate) fn new(ids: &ExtensionIds, mid: &'a [u8], number: Option<&'a [u8; 2]>, values: &Values<'a>) -> Self {
        let mut all = Self::default();
        all.push(ids.mid, Some(mid));
        all.push(ids.twcc, number.map(<[u8; 2]>::as_slice));
        all.push(ids.audio_level, values.audio_level);
        all.push(ids.dependency_descriptor, values.dependency_descriptor);
        all.push(ids.abs_capture_time, values.abs_capture_time);
        all.push(ids.playout_delay, values.playout_delay);
        all.push(ids.video_orientation, values.video_orientation);
        all
    }

    /// The given ids and values; what has the id 0 is left out.
    pub(crate) fn of(values: &[(u8, &'a [u8])]) -> Self {
        let mut all = Self::default();
        values.iter().for_each(|(id, value)| all.push(*id, Some(value)));
        all
    }

    fn push(&mut self, id: u8, value: Option<&'a [u8]>) {
        let Some(value) = value.filter(|v| id != 0 && v.len() < 256) else { return };
        self.two_byte |= id > 14 || value.is_empty() || value.len() > 16;
        self.list[self.len] = (id, value);
        self.len += 1;
        self.bytes += value.len();
    }

    /// Appends header and extensions to `out`.
    pub(crate) fn write(&self, header: &Outgoing, out: &mut Vec<u8>) {
        out.extend_from_slice(&header.fixed(self.len > 0));
        if self.len == 0 {
            return;
        }
        let size = self.bytes + self.len * if self.two_byte { 2 } else { 1 };
        let words = size.div_ceil(4);
        out.extend_from_slice(if self.two_byte { &[0x10, 0] } else { &[0xbe, 0xde] });
        out.extend_from_slice(&(words as u16).to_be_bytes());
        for &(id, value) in &self.list[..self.len] {
            let len = value.len() as u8;
            if self.two_byte {
                out.extend_from_slice(&[id, len]);
            } else {
                out.push(id << 4 | (len - 1));
            }
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&[0; 3][..words * 4 - size]);
    }
}

/// The payload without RTP padding (RFC 3550 §5.1); `None` when the padding count is impossible.
pub(crate) fn payload<'a>(header: &Header, packet: &'a [u8]) -> Option<&'a [u8]> {
    let payload = packet.get(header.len..)?;
    if !header.padding {
        return Some(payload);
    }
    let count = usize::from(*payload.last()?);
    if count == 0 { None } else { payload.get(..payload.len().checked_sub(count)?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> ExtensionIds {
        ExtensionIds { mid: 4, audio_level: 1, dependency_descriptor: 13, twcc: 3, ..Default::default() }
    }

    #[test]
    fn writes_what_it_reads() {
        let level = [0x85];
        let values = Values { audio_level: Some(&level), ..Default::default() };
        let header =
            Outgoing { marker: true, payload_type: 111, sequence: 0xfffe, timestamp: 0xdead_beef, ssrc: 0x0102_0304 };
        let mut out = Vec::new();
        OutgoingExtensions::new(&ids(), b"12", Some(&[0xab, 0xcd]), &values).write(&header, &mut out);
        out.extend_from_slice(b"payload");
        let read = Header::read(&out).unwrap();
        assert_eq!(
            (read.marker, read.payload_type, read.sequence, read.timestamp, read.ssrc),
            (true, 111, 0xfffe, 0xdead_beef, 0x0102_0304)
        );
        let values = Values::read(&ExtensionMap::new(&ids()), &read, &out);
        assert_eq!((values.mid, values.twcc, values.audio_level), (Some(&b"12"[..]), Some(0xabcd), Some(&level[..])));
        assert_eq!(payload(&read, &out), Some(&b"payload"[..]));
    }

    proptest! {
        #[test]
        fn a_bare_header_is_the_same_in_short(mid_id in 0u8..20, twcc_id in 0u8..20, mid in "[0-9]{0,12}", number: Option<[u8; 2]>) {
            let ids = ExtensionIds { mid: mid_id, twcc: twcc_id, ..ids() };
            let header = Outgoing { marker: true, payload_type: 96, sequence: 1000, timestamp: 2000, ssrc: 3000 };
            let (mut bare, mut full) = (Vec::new(), Vec::new());
            header.write_bare(&ids, mid.as_bytes(), number, &mut bare);
            let values = Values::default();
            prop_assert!(values.is_bare());
            OutgoingExtensions::new(&ids, mid.as_bytes(), number.as_ref(), &values).write(&header, &mut full);
            prop_assert_eq!(bare, full);
        }
    }

    #[test]
    fn a_long_value_takes_the_two_byte_form() {
        let descriptor = [7; 40];
        let values = Values { dependency_descriptor: Some(&descriptor), ..Default::default() };
        let header = Outgoing { marker: false, payload_type: 45, sequence: 1, timestamp: 2, ssrc: 3 };
        let mut out = Vec::new();
        OutgoingExtensions::new(&ids(), b"0", None, &values).write(&header, &mut out);
        let read = Header::read(&out).unwrap();
        assert_eq!(read.len, out.len());
        assert_eq!(out[12..14], [0x10, 0]);
        let values = Values::read(&ExtensionMap::new(&ids()), &read, &out);
        assert_eq!((values.mid, values.dependency_descriptor), (Some(&b"0"[..]), Some(&descriptor[..])));
    }

    #[test]
    fn impossible_padding_is_refused() {
        let mut packet = vec![0xa0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 0];
        let header = Header::read(&packet).unwrap();
        assert_eq!(payload(&header, &packet), None);
        packet[14] = 4;
        assert_eq!(payload(&header, &packet), None);
        packet[14] = 3;
        assert_eq!(payload(&header, &packet), Some(&[][..]));
        packet[14] = 1;
        assert_eq!(payload(&header, &packet), Some(&[9, 9][..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut packet in proptest::collection::vec(any::<u8>(), 0..200), force: bool) {
            if force && !packet.is_empty() {
                packet[0] = 0x90 | packet[0] & 0x2f;
            }
            if let Some(header) = Header::read(&packet) {
                let _ = payload(&header, &packet);
                let _ = Values::read(&ExtensionMap::new(&ids()), &header, &packet);
                prop_assert!(header.elements(&packet).count() <= packet.len());
            }
        }
    }
}
