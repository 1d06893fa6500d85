//! Strings in the code of RFC 7541 appendix B. It is read and never written: a string that comes often stands in the table
//! soon, and the octets that one written once would spare are worth less than the time that both ends take to it.

/// How many bits the code of each octet has, and of the end of a string. Codes of one length follow one another in the
/// order of their octets, and on those of the length before, so that this says all of them.
pub const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// All octets, and the end.
const SYMBOLS: usize = 257;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits that one look takes in: most octets of text have no more.
const LOOK: usize = 8;

/// The code, in the form that it is read in.
struct Code {
    /// What begins with these bits: an octet, and how many of them are its own; zero: more than are here.
    short: [(u8, u8); 1 << LOOK],
    /// The first code of each length.
    first: [u32; LONGEST + 1],
    /// How many codes there are of each length.
    count: [u16; LONGEST + 1],
    /// Where those of each length begin among the symbols.
    at: [u16; LONGEST + 1],
    /// Octets, in the order of their codes; the end is the last, and is none.
    symbols: [u16; SYMBOLS],
}

static CODE: Code = code();

#[expect(clippy::indexing_slicing, reason = "it is made while it is compiled, where this would be an error")]
const fn code() -> Code {
    let mut code = Code {
        short: [(0, 0); 1 << LOOK],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        at: [0; LONGEST + 1],
        symbols: [0; SYMBOLS],
    };
    let (mut next, mut placed, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.at[length] = placed as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed] = symbol as u16;
                code.count[length] += 1;
                let mut rest = 0;
                while length <= LOOK && rest < 1 << (LOOK - length) {
                    code.short[((next as usize) << (LOOK - length)) + rest] = (symbol as u8, length as u8);
                    rest += 1;
                }
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// The symbol whose code `bits` begin with, of which there are so many, and how long it is.
#[inline]
fn longer(bits: u64, have: usize) -> Option<(u16, usize)> {
    (LOOK + 1..=LONGEST.min(have)).find_map(|length| {
        let number = ((bits >> (64 - length)) as u32).checked_sub(*CODE.first.get(length)?)?;
        if number >= u32::from(*CODE.count.get(length)?) {
            return None;
        }
        let at = usize::from(*CODE.at.get(length)?) + number as usize;
        Some((*CODE.symbols.get(at)?, length))
    })
}

/// Appends the string that `bytes` stand for to `out`; `None`: they stand for none (RFC 7541 section 5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The shortest code has five bits.
    out.reserve(bytes.len() * 8 / 5);
    // Those that are here, the next one the highest.
    let (mut bits, mut have) = (0_u64, 0_usize);
    let mut bytes = bytes.iter();
    loop {
        while have <= 56
            && let Some(byte) = bytes.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let (octet, length) = match CODE.short.get((bits >> (64 - LOOK)) as usize) {
            Some((octet, length)) if *length > 0 && usize::from(*length) <= have => {
                (*octet, usize::from(*length))
            }
            _ => match longer(bits, have) {
                // The end of a string is not to be in it.
                Some((symbol, length)) => (u8::try_from(symbol).ok()?, length),
                // What is left over is the beginning of the end's code, which has ones alone, and less than an octet of it.
                None => return (have < 8 && bits.leading_ones() as usize >= have).then_some(()),
            },
        };
        out.push(octet);
        bits <<= length;
        have -= length;
    }
}
