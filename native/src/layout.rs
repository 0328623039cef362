//! Where in a message the readings are, and reading them from there.

use crate::scan;

/// Time, three axes of the accelerometer, and three of the gyroscope.
pub const FIELDS: usize = 7;
const TIME: u8 = 1;
const ACCELEROMETER: u8 = 0b1110;
const GYROSCOPE: u8 = 0b111_0000;
const ALL: u8 = TIME | ACCELEROMETER | GYROSCOPE;
/// What larger numbers mean, a time above all, is for Python to judge.
const LARGEST: f64 = 1e18;
/// Children are bits of a number.
pub const MOST_CHILDREN: usize = 64;

/// What is wanted of a value: a number of a column, the device's id, or what is within it.
pub enum Node {
    Number(usize),
    Id,
    Object(Vec<(Name, Node)>),
    List(Vec<Option<Node>>),
    Readings(Box<Node>),
}

/// The name of a field with the quote behind it. Its beginning is compared at once.
pub struct Name {
    text: Vec<u8>,
    head: u128,
    mask: u128,
}

impl Name {
    /// None if the name isn't written as it is.
    pub fn new(name: &str) -> Option<Self> {
        if name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            return None;
        }
        let text = [name.as_bytes(), b"\""].concat();
        let mask = u128::MAX >> (128 - 8 * text.len().min(16));
        Some(Name { head: head(&text) & mask, mask, text })
    }

    #[inline(always)]
    fn begins(&self, text: &[u8], head: u128) -> bool {
        head & self.mask == self.head && (self.text.len() <= 16 || text.starts_with(&self.text))
    }
}

#[inline(always)]
fn head(text: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    match text.first_chunk() {
        Some(chunk) => bytes = *chunk,
        None => bytes[..text.len()].copy_from_slice(text),
    }
    u128::from_le_bytes(bytes)
}

/// What is asked of all messages.
pub struct Rules {
    /// A message may be a list of readings.
    pub may_be_list: bool,
    pub needs_time: bool,
    /// The message has to have an id, which may be a whole number.
    pub needs_id: bool,
    pub most_bytes: usize,
    pub most_readings: usize,
}

/// A column for each field, and one for the row of the message of each reading.
pub type Columns = [Vec<f64>; FIELDS + 1];

/// A message that is being read.
struct Message<'a, 'c> {
    rules: &'c Rules,
    columns: &'c mut Columns,
    id: Option<&'a [u8]>,
    reading: [f64; FIELDS],
    /// Fields of the reading, and of arrays, each a bit.
    single: u8,
    arrays: u8,
    has_list: bool,
    is_in_list: bool,
}

/// Add the readings of a message, and give the id of its device if it is wanted and there.
///
/// None, and nothing is added, if the message is anything but usual, or has another id than the
/// expected one.
pub fn read<'a>(
    root: &Node,
    rules: &Rules,
    value: &'a [u8],
    expected: Option<&str>,
    row: usize,
    columns: &mut Columns,
) -> Option<Option<&'a [u8]>> {
    if value.len() > rules.most_bytes {
        return None;
    }
    let begin = columns[FIELDS].len();
    let mut message = Message {
        rules,
        columns,
        id: None,
        reading: [f64::NAN; FIELDS],
        single: 0,
        arrays: 0,
        has_list: false,
        is_in_list: false,
    };
    let done = message.root(root, value).and_then(|()| message.finish(begin, row, expected));
    let id = message.id;
    if done.is_none() {
        columns.iter_mut().for_each(|column| column.truncate(begin));
    }
    done.map(|()| id)
}

impl<'a> Message<'a, '_> {
    fn root(&mut self, root: &Node, value: &'a [u8]) -> Option<()> {
        let text = scan::trim(value);
        let is_list = match (root, text) {
            _ if !self.rules.may_be_list => false,
            (Node::Object(_), [b'[', ..]) => true,
            (Node::List(_), [b'[', rest @ ..]) => matches!(scan::trim(rest), [b'[' | b'{', ..]),
            _ => false,
        };
        let rest = if is_list { self.readings(root, text) } else { self.value(root, text) };
        scan::trim(rest?).is_empty().then_some(())
    }

    /// Read a value; the text after it.
    #[inline(always)]
    fn value(&mut self, node: &Node, text: &'a [u8]) -> Option<&'a [u8]> {
        match node {
            Node::Number(column) => self.number(*column, text),
            Node::Object(children) => self.object(children, text),
            Node::List(children) => self.list(children, text),
            Node::Readings(item) => self.readings(item, text),
            Node::Id => self.device_id(text),
        }
    }

    fn object(&mut self, children: &[(Name, Node)], text: &'a [u8]) -> Option<&'a [u8]> {
        let (mut seen, mut expected) = (0_u64, 0);
        scan::each(scan::after(text, b'{')?, b'}', |text| {
            let name = scan::after(text, b'"')?;
            let head = head(name);
            // They come in the same order, mostly.
            let found = match children.get(expected) {
                Some((wanted, _)) if wanted.begins(name, head) => Some(expected),
                _ => children.iter().position(|(wanted, _)| wanted.begins(name, head)),
            };
            let Some(place) = found else {
                let (_, rest) = scan::string(text)?;
                return scan::skip(scan::after(rest, b':')?, 0);
            };
            if seen >> place & 1 != 0 {
                return None;
            }
            seen |= 1 << place;
            expected = place + 1;
            let (wanted, child) = &children[place];
            self.value(child, scan::after(name.get(wanted.text.len()..)?, b':')?)
        })
    }

    fn list(&mut self, children: &[Option<Node>], text: &'a [u8]) -> Option<&'a [u8]> {
        let mut wanted = children.iter();
        scan::each(scan::after(text, b'[')?, b']', |text| match wanted.next() {
            Some(Some(child)) => self.value(child, text),
            _ => scan::skip(text, 0),
        })
    }

    fn readings(&mut self, item: &Node, text: &'a [u8]) -> Option<&'a [u8]> {
        if self.has_list {
            return None;
        }
        (self.has_list, self.is_in_list) = (true, true);
        let rest = scan::each(scan::after(text, b'[')?, b']', |text| {
            self.single = 0;
            let rest = self.value(item, text)?;
            self.push_reading();
            (self.single == ALL).then_some(rest)
        });
        self.is_in_list = false;
        rest
    }

    fn push_reading(&mut self) {
        for (column, number) in self.columns.iter_mut().zip(self.reading) {
            column.push(number);
        }
    }

    #[inline(always)]
    fn number(&mut self, column: usize, text: &'a [u8]) -> Option<&'a [u8]> {
        let text = scan::trim(text);
        if let [b'[', rest @ ..] = text {
            return self.array(column, rest);
        }
        let (number, rest) = scan::number(text)?;
        self.reading[column] = number;
        self.single |= 1 << column;
        (number.abs() <= LARGEST).then_some(rest)
    }

    fn array(&mut self, column: usize, text: &'a [u8]) -> Option<&'a [u8]> {
        if self.is_in_list {
            return None;
        }
        self.arrays |= 1 << column;
        let numbers = &mut self.columns[column];
        scan::each(text, b']', |text| {
            let (number, rest) = scan::number(scan::trim(text))?;
            numbers.push(number);
            (number.abs() <= LARGEST).then_some(rest)
        })
    }

    fn device_id(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let text = scan::trim(text);
        let (id, rest) = match text {
            [b'"', ..] => scan::string(text)?,
            [b'1'..=b'9', ..] if self.rules.needs_id => {
                let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (id, rest) = text.split_at(count);
                if count > 18 || matches!(rest, [b'.' | b'e' | b'E', ..]) {
                    return None;
                }
                (id, rest)
            }
            _ => return None,
        };
        self.id = Some(id);
        (!self.is_in_list).then_some(rest)
    }

    /// Complete the readings of a message that begin at a place of the columns.
    fn finish(&mut self, begin: usize, row: usize, expected: Option<&str>) -> Option<()> {
        match (self.id, expected) {
            (Some(id), Some(expected)) if id != expected.as_bytes() => return None,
            (None, _) if self.rules.needs_id => return None,
            _ => {}
        }
        if !self.has_list {
            let given = self.single | self.arrays;
            let gyroscope = given & GYROSCOPE;
            if given & ACCELEROMETER != ACCELEROMETER || !matches!(gyroscope, 0 | GYROSCOPE) {
                return None;
            }
            let has_time = given & TIME != 0;
            if self.arrays == 0 {
                if self.rules.needs_time && !has_time {
                    return None;
                }
                self.push_reading();
            } else if self.single != 0 || !has_time {
                return None;
            }
        }
        let end = self.columns[0].len();
        if end - begin > self.rules.most_readings {
            return None;
        }
        for column in &mut self.columns[1..FIELDS] {
            if column.len() == begin {
                column.resize(end, 0.0);
            } else if column.len() != end {
                return None;
            }
        }
        self.columns[FIELDS].resize(end, row as f64);
        Some(())
    }
}
