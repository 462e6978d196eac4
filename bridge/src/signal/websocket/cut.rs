//! A client's bytes, in which long messages come in short frames.
//!
//! RFC 6455 §5.4 lets whoever passes frames on split them, as there are no extensions here: a frame of more than [`PART`] bytes
//! becomes one of [`PART`] and continuations. The masking key stays valid as long as parts are multiples of its four
//! bytes. Whatever is against the protocol, or too long to be read, goes through as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::wire::MAX_READ;
use super::PART;

const _: () = assert!(PART <= u16::MAX as usize && PART.is_multiple_of(4));

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Opcodes from here on are those of control frames.
const CONTROL: u8 = 0x08;
/// Lengths that say how long the length is (§5.2).
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// The shortest header of a client: two bytes and the masking key.
const MIN_HEADER: usize = 2 + 4;
const MAX_HEADER: usize = 2 + 8 + 4;

/// A connection whose long frames are cut as they are read.
#[derive(Debug)]
pub(crate) struct Cut<S> {
    inner: S,
    header: Header,
    /// Bytes until the next header is read or made.
    payload: u64,
    /// What comes after them of a frame that was cut.
    rest: Option<Rest>,
}

/// A header on its way: gathered, then passed on.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; MAX_HEADER],
    /// How many there are.
    have: usize,
    /// How many of them were passed on, once all are there.
    passed: Option<usize>,
}

/// What is left of a frame that was cut.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Whether the frame was the last of its message.
    fin: u8,
    mask: [u8; 4],
    length: u64,
}

impl<S> Cut<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, header: Header::default(), payload: 0, rest: None }
    }

    /// How many bytes of the frame's header are wanted, from what is there of it.
    fn wanted(&self) -> usize {
        match self.header.bytes[1] & !MASKED {
            LENGTH_16 if self.header.have > 1 => MIN_HEADER + 2,
            LENGTH_64 if self.header.have > 1 => MIN_HEADER + 8,
            _ => MIN_HEADER,
        }
    }

    /// Whether a client must not send this: it has no masking key.
    fn is_unmasked(&self) -> bool {
        self.header.have > 1 && self.header.bytes[1] & MASKED == 0
    }

    /// A whole header is there: a long frame's becomes that of its first part.
    fn complete(&mut self) {
        let Header { bytes, have, .. } = self.header;
        let [first, second, eight @ ..] = bytes;
        let length = match second & !MASKED {
            LENGTH_16 => u16::from_be_bytes([eight[0], eight[1]]).into(),
            LENGTH_64 => u64::from_be_bytes(std::array::from_fn(|at| eight[at])),
            short => short.into(),
        };
        let mask = std::array::from_fn(|at| bytes[have - 4 + at]);
        self.header.passed = Some(0);
        self.payload = length;
        if first & CONTROL == 0 && (PART + 1..=MAX_READ).contains(&usize::try_from(length).unwrap_or(usize::MAX)) {
            self.part(first & !FIN, Rest { fin: first & FIN, mask, length });
        }
    }

    /// A header of ours comes next: that of a frame's next part.
    fn part(&mut self, opcode: u8, rest: Rest) {
        self.payload = rest.length.min(PART as u64);
        let left = rest.length - self.payload;
        let fin = if left == 0 { rest.fin } else { 0 };
        let [.., high, low] = self.payload.to_be_bytes();
        let [a, b, c, d] = rest.mask;
        let header = [opcode | fin, MASKED | LENGTH_16, high, low, a, b, c, d];
        self.header.bytes[..header.len()].copy_from_slice(&header);
        (self.header.have, self.header.passed) = (header.len(), Some(0));
        self.rest = (left > 0).then_some(Rest { length: left, ..rest });
    }

    /// What is there of a header is passed on, and all that comes after it.
    fn pass(&mut self) {
        (self.header.passed, self.payload) = (Some(0), u64::MAX);
    }

    /// A frame or a part has come to its end.
    fn next(&mut self) {
        match self.rest.take() {
            None => self.header = Header::default(),
            Some(rest) => self.part(0, rest),
        }
    }
}

impl<S: AsyncRead + Unpin> Cut<S> {
    /// Gathers a header. What ends before it is one, or is none of a client, is passed on as it is.
    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (have, wanted) = (self.header.have, self.wanted());
            if self.is_unmasked() {
                // It is refused; what comes after it does not matter.
                self.pass();
                return Poll::Ready(Ok(()));
            }
            if have == wanted {
                self.complete();
                return Poll::Ready(Ok(()));
            }
            let mut more = ReadBuf::new(&mut self.header.bytes[have..wanted]);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut more))?;
            let read = more.filled().len();
            if read == 0 {
                self.pass();
                return Poll::Ready(Ok(()));
            }
            self.header.have += read;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cut<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let Some(passed) = &mut this.header.passed else {
                ready!(this.poll_header(context))?;
                continue;
            };
            let header = &this.header.bytes[*passed..this.header.have];
            if !header.is_empty() {
                let fits = header.len().min(buf.remaining());
                buf.put_slice(&header[..fits]);
                *passed += fits;
                return Poll::Ready(Ok(()));
            }
            if this.payload == 0 {
                this.next();
                continue;
            }
            let room = usize::try_from(this.payload).unwrap_or(usize::MAX).min(buf.remaining());
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
            this.payload -= read as u64;
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cut<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// A client's frame whose payload counts.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(MASKED | u8::try_from(length).unwrap()),
            126..65536 => {
                bytes.push(MASKED | LENGTH_16);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(MASKED | LENGTH_64);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend((0..length).map(|at| at.to_le_bytes()[0]));
        bytes
    }

    async fn read(sent: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Cut::new(sent).read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_is_short_or_no_data_comes_as_it_is() {
        let frames = [frame(0x82, 0), frame(0x01, 125), frame(0x80, 126), frame(0x82, PART), frame(0x89, 5000)];
        let all = frames.concat();
        assert_eq!(read(&all).await, all);
    }

    #[tokio::test]
    async fn what_is_against_the_protocol_comes_as_it_is() {
        let unmasked = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0x20, 0][..], &[9; 100]].concat();
        assert_eq!(read(&unmasked).await, unmasked);
        assert_eq!(read(&unmasked[..2]).await, unmasked[..2], "however short");
        let cut_off = &frame(0x82, 70_000)[..9];
        assert_eq!(read(cut_off).await, cut_off, "a stream that ends within a header");
        assert_eq!(read(&[0x82]).await, [0x82]);
    }

    #[tokio::test]
    async fn what_is_long_comes_in_parts() {
        for (length, header) in [(10_000, 8), (70_000, 14)] {
            let whole = frame(0x82, length);
            let bytes = read(&[&whole[..], &frame(0x89, 3)].concat()).await;
            let (mut rest, mut payload, mut first) = (&bytes[..], Vec::<u8>::new(), 0x02);
            let mut left = length;
            while left > 0 {
                let part = left.min(PART);
                left -= part;
                let [high, low] = u16::try_from(part).unwrap().to_be_bytes();
                let fin = if left == 0 { FIN } else { 0 };
                assert_eq!(rest[..8], [first | fin, 0xfe, high, low, 1, 2, 3, 4]);
                payload.extend(&rest[8..8 + part]);
                (rest, first) = (&rest[8 + part..], 0);
            }
            assert_eq!(payload, whole[header..]);
            assert_eq!(rest, frame(0x89, 3), "and the next frame is found");
        }
    }

    #[tokio::test]
    async fn what_is_too_long_comes_as_it_is() {
        let long = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4], &[0; 5000]].concat();
        assert_eq!(read(&long(u64::MAX)).await, long(u64::MAX));
        assert_eq!(read(&long(MAX_READ as u64 + 1)).await, long(MAX_READ as u64 + 1));
        assert_eq!(read(&long(MAX_READ as u64)).await[..4], [0x02, 0xfe, 0x10, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Messages, in frames and pieces of any length, are what they were.
        #[test]
        fn messages_stay_what_they_are(messages in prop::collection::vec((any::<bool>(), 0..40_000usize), 1..6), room in 1..9000usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (near, far) = duplex(room);
                let sent: Vec<Message> = messages.iter().map(|(text, length)| {
                    let payload: Vec<u8> = (0..*length).map(|at| b'a' + at.to_le_bytes()[0] % 26).collect();
                    if *text { Message::text(String::from_utf8(payload).unwrap()) } else { Message::Binary(payload.into()) }
                }).collect();
                let all = sent.clone();
                let client = async move {
                    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
                    for message in all {
                        client.send(message).await.unwrap();
                        client.send(Message::Ping(vec![1].into())).await.unwrap();
                    }
                    client.close(None).await.unwrap();
                    while client.next().await.is_some() {}
                };
                let server = async move {
                    let server = WebSocketStream::from_raw_socket(Cut::new(near), Role::Server, Some(super::super::config())).await;
                    server.map(Result::unwrap).filter(|message| std::future::ready(!message.is_ping() && !message.is_close())).collect::<Vec<_>>().await
                };
                let ((), got) = tokio::join!(client, server);
                assert_eq!(got, sent);
            });
        }
    }
}
