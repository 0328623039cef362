//! JSON text, piece by piece. Each function takes the text and gives what it read and what is left.
//!
//! It knows less than JSON: it is None whenever a piece is anything but ordinary, be it valid or
//! not. Then the message is left to Python.

const MOST_NESTED: usize = 32;
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
const TENS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const MOST_DIGITS: usize = 19;

/// The text after spaces.
#[inline(always)]
pub fn trim(text: &[u8]) -> &[u8] {
    match text {
        [first, ..] if *first > b' ' => text,
        _ => trim_spaces(text),
    }
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// The text after spaces and a character.
#[inline(always)]
pub fn after(text: &[u8], character: u8) -> Option<&[u8]> {
    match text {
        [first, rest @ ..] if *first == character => Some(rest),
        _ => match trim_spaces(text) {
            [first, rest @ ..] if *first == character => Some(rest),
            _ => None,
        },
    }
}

/// Read the elements of a list or an object, one at least, after its first bracket.
#[inline(always)]
pub fn each<'a>(
    mut text: &'a [u8],
    end: u8,
    mut read: impl FnMut(&'a [u8]) -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    loop {
        match trim(read(text)?) {
            [b',', rest @ ..] => text = rest,
            [last, rest @ ..] if *last == end => return Some(rest),
            _ => return None,
        }
    }
}

/// Text in quotes, without any escape.
#[inline(always)]
pub fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = after(text, b'"')?;
    let mut bits = 0;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            b'"' => {
                let (content, rest) = (&text[..place], &text[place + 1..]);
                if bits >= 0x80 && std::str::from_utf8(content).is_err() {
                    return None;
                }
                return Some((content, rest));
            }
            b'\\' | 0..0x20 => return None,
            _ => bits |= byte,
        }
    }
    None
}

/// Digits, which are added to a value.
#[inline(always)]
fn few_digits<'a>(mut text: &'a [u8], value: &mut u64) -> (usize, &'a [u8]) {
    let begin = text.len();
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        text = rest;
    }
    (begin - text.len(), text)
}

/// The same, eight at once.
#[inline(always)]
fn digits<'a>(mut text: &'a [u8], value: &mut u64) -> (usize, &'a [u8]) {
    let begin = text.len();
    // Eight at once: each byte becomes its digit, and the first that is none has its high bit set.
    while let Some(eight) = text.first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight) ^ 0x3030_3030_3030_3030;
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let count = (others.trailing_zeros() / 8) as usize;
        if count == 8 {
            *value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
            text = &text[8..];
            continue;
        }
        // Zeros stand before them then.
        let padded = if count == 0 { 0 } else { word << (64 - 8 * count) };
        *value = value.wrapping_mul(TENS[count]).wrapping_add(eight_digits(padded));
        text = &text[count..];
        return (begin - text.len(), text);
    }
    let (count, rest) = few_digits(text, value);
    (begin - text.len() + count, rest)
}

/// The number whose digits are the bytes of a word, the first in the lowest byte.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10).wrapping_add(word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// A number, as the float64 that is nearest to it.
#[inline(always)]
pub fn number(text: &[u8]) -> Option<(f64, &[u8])> {
    // No branch: signs of readings can't be foreseen.
    let is_negative = text.first() == Some(&b'-');
    let whole = text.get(usize::from(is_negative)..)?;
    let mut value = 0;
    let (before, mut rest) = few_digits(whole, &mut value);
    if before == 0 || (before > 1 && whole[0] == b'0') {
        return None;
    }
    let mut behind = 0;
    if let [b'.', fraction @ ..] = rest {
        (behind, rest) = digits(fraction, &mut value);
        if behind == 0 {
            return None;
        }
    } else if is_negative && value == 0 {
        return None; // as an integer, it has no sign
    }
    let has_exponent = matches!(rest, [b'e' | b'E', ..]);
    if has_exponent || before + behind > MOST_DIGITS || value > 1 << 53 {
        return long_number(text, rest);
    }
    // Both are exact in float64, so their quotient is rounded once.
    let bits = (value as f64 / EXACT[behind]).to_bits() | u64::from(is_negative) << 63;
    Some((f64::from_bits(bits), rest))
}

#[cold]
#[inline(never)]
fn long_number<'a>(text: &'a [u8], mut rest: &'a [u8]) -> Option<(f64, &'a [u8])> {
    if let [b'e' | b'E', exponent @ ..] = rest {
        let count;
        let unsigned = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            _ => exponent,
        };
        (count, rest) = digits(unsigned, &mut 0);
        if count == 0 {
            return None;
        }
    }
    let token = std::str::from_utf8(&text[..text.len() - rest.len()]).ok()?;
    let value: f64 = token.parse().ok()?;
    value.is_finite().then_some((value, rest))
}

/// The text after any value.
pub fn skip(text: &[u8], nested: usize) -> Option<&[u8]> {
    if nested > MOST_NESTED {
        return None;
    }
    match trim(text) {
        text @ [b'"', ..] => string(text).map(|(_, rest)| rest),
        [first @ (b'{' | b'['), rest @ ..] => {
            let (is_object, end) = (*first == b'{', first + 2);
            after(rest, end).or_else(|| {
                each(rest, end, |text| {
                    let value = if is_object { after(string(text)?.1, b':')? } else { text };
                    skip(value, nested + 1)
                })
            })
        }
        [b't', b'r', b'u', b'e', rest @ ..] => Some(rest),
        [b'f', b'a', b'l', b's', b'e', rest @ ..] => Some(rest),
        [b'n', b'u', b'l', b'l', rest @ ..] => Some(rest),
        text => number(text).map(|(_, rest)| rest),
    }
}
