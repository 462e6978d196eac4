//! Reading and copying bit fields, most significant bit first; out of bounds is `None`.

/// A position in some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bits have been read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bits, at most 32.
    pub(super) fn read(&mut self, count: usize) -> Option<u32> {
        let end = self.at + count;
        if count > 32 || end > self.bytes.len() * 8 {
            return None;
        }
        let mut value = 0u64;
        let first = self.at / 8;
        let last = end.div_ceil(8);
        for byte in &self.bytes[first..last] {
            value = value << 8 | u64::from(*byte);
        }
        value >>= last * 8 - end;
        self.at = end;
        Some((value & ((1 << count) - 1)) as u32)
    }

    /// The next bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// `ns(n)`: a value below `n` in as few bits as it takes (AV1 specification §4.10.7).
    pub(super) fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = (u32::BITS - n.leading_zeros()) as usize;
        let short = (1 << width) - n;
        let value = self.read(width.checked_sub(1)?)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.read(1)?)
    }
}

/// Writes bit fields into a buffer of zeros; what does not fit makes it overflow.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> BitWriter<'a> {
    /// `bytes` must be zeros.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The `count` lowest bits of `value`; `None` when they do not fit.
    pub(super) fn write(&mut self, count: usize, value: u32) -> Option<()> {
        for bit in (0..count).rev() {
            *self.bytes.get_mut(self.at / 8)? |= ((value >> bit & 1) as u8) << (7 - self.at % 8);
            self.at += 1;
        }
        Some(())
    }

    /// The next `count` bits of `from`.
    pub(super) fn copy(&mut self, from: &mut Bits<'_>, mut count: usize) -> Option<()> {
        while count > 0 {
            let part = count.min(32);
            self.write(part, from.read(part)?)?;
            count -= part;
        }
        Some(())
    }

    /// Bytes begun.
    pub(super) fn len(&self) -> usize {
        self.at.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn non_symmetric_values_take_as_few_bits_as_they_can() {
        // n = 5 (AV1 specification §4.10.7): 0, 1 and 2 take two bits, 3 and 4 three.
        let mut bits = Bits::new(&[0b0001_1011, 0b0111_0000]);
        let values: Vec<_> = (0..5).map(|_| bits.non_symmetric(5)).collect();
        assert_eq!(values, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(bits.position(), 12);
        assert_eq!(Bits::new(&[]).non_symmetric(1), Some(0), "no choice, no bits");
        assert_eq!(Bits::new(&[0xff]).non_symmetric(0), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in proptest::collection::vec((1usize..=32, any::<u32>()), 1..20)) {
            let mut bytes = [0; 80];
            let mut writer = BitWriter::new(&mut bytes);
            for (count, value) in &fields {
                writer.write(*count, *value).unwrap();
            }
            let mut bits = Bits::new(&bytes);
            for (count, value) in &fields {
                prop_assert_eq!(u64::from(bits.read(*count).unwrap()), u64::from(*value) & ((1 << count) - 1));
            }
            let (mut copy, end) = ([0; 80], bits.position());
            let mut writer = BitWriter::new(&mut copy);
            writer.copy(&mut Bits::new(&bytes), end).unwrap();
            prop_assert_eq!(writer.len(), end.div_ceil(8));
            prop_assert_eq!(copy, bytes);
            prop_assert_eq!(Bits::new(&bytes[..1]).read(9), None);
        }
    }
}
