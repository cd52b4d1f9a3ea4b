//! ChannelData messages (RFC 8656 section 12.4).

/// Bytes before the application data.
pub const CHANNEL_DATA_HEADER: usize = 4;

/// The number of a channel. On the wire any value is possible; see [`ChannelNumber::is_valid`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(pub u16);

impl ChannelNumber {
    /// The first number that can be bound.
    pub const MIN: Self = Self(0x4000);
    /// The last number that can be bound.
    pub const MAX: Self = Self(0x4FFF);
    /// The last number that RFC 5766 let clients bind.
    pub const MAX_RFC5766: Self = Self(0x7FFF);

    /// May this number be bound? (RFC 8656 section 12, table 2)
    pub const fn is_valid(self) -> bool {
        self.0 >= Self::MIN.0 && self.0 <= Self::MAX.0
    }
}

impl std::fmt::Debug for ChannelNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// A ChannelData message as a view of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub number: ChannelNumber,
    /// The application data.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Looks at a datagram or a frame; bytes after the announced length are padding.
    ///
    /// `None` if it is shorter than it claims, or the number lies outside 0x4000 to 0x7FFF. Whether a number above
    /// 0x4FFF can be bound, as RFC 5766 had it, is the relay's affair.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<CHANNEL_DATA_HEADER>()?;
        let number = ChannelNumber(u16::from_be_bytes([head[0], head[1]]));
        let data = rest.get(..usize::from(u16::from_be_bytes([head[2], head[3]])))?;
        (ChannelNumber::MIN..=ChannelNumber::MAX_RFC5766).contains(&number).then_some(Self { number, data })
    }

    /// The header of a message with `len` bytes of data; at most 65,535.
    pub fn header(number: ChannelNumber, len: usize) -> [u8; CHANNEL_DATA_HEADER] {
        let ([a, b], [c, d]) = (number.0.to_be_bytes(), (len as u16).to_be_bytes());
        [a, b, c, d]
    }
}
