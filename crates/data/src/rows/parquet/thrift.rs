//! Thrift's compact protocol, as far as page headers and the checks of a footer need it.

/// Structs, lists and maps within one another, at most.
const MAX_DEPTH: usize = 24;
/// Fields within fields of a schema, at most.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Fields of a schema, at most.
const MAX_SCHEMA_FIELDS: usize = 20_000;

/// Bytes that are read as values.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes read.
    pub(super) at: usize,
}

/// Why bytes are no values.
#[derive(Debug, PartialEq)]
pub(super) enum Wrong {
    /// More bytes are needed.
    Cut,
    /// No bytes help.
    Invalid,
}

type Read<T> = Result<T, Wrong>;

/// A type of the compact protocol.
type Type = u8;
const STOP: Type = 0;
pub(super) const TRUE: Type = 1;
pub(super) const FALSE: Type = 2;
const BYTE: Type = 3;
const I64: Type = 6;
const DOUBLE: Type = 7;
const BINARY: Type = 8;
const LIST: Type = 9;
const SET: Type = 10;
const MAP: Type = 11;
pub(super) const STRUCT: Type = 12;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Wrong::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Wrong::Invalid)
    }

    /// A signed integer.
    pub(super) fn integer(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The type and number of the next field of a struct, after the field numbered `last`; `None` at its end.
    pub(super) fn field(&mut self, last: i64) -> Read<Option<(Type, i64)>> {
        let head = self.byte()?;
        match (head & 0x0f, head >> 4) {
            (STOP, _) => Ok(None),
            (kind, 0) => Ok(Some((kind, self.integer()?))),
            (kind, step) => Ok(Some((kind, last.saturating_add(i64::from(step))))),
        }
    }

    /// The type and number of a list's elements, each of which takes a byte at least.
    fn list(&mut self) -> Read<(Type, usize)> {
        let head = self.byte()?;
        let n = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if n > (self.bytes.len() - self.at) as u64 {
            return Err(Wrong::Cut);
        }
        Ok((head & 0x0f, n as usize))
    }

    fn bytes(&mut self, n: u64) -> Read<&'a [u8]> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n)).ok_or(Wrong::Invalid)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Wrong::Cut)?;
        self.at = end;
        Ok(bytes)
    }

    /// Skips a value. A truth value in a struct takes no byte, one in a list one.
    pub(super) fn skip(&mut self, kind: Type) -> Read<()> {
        match kind {
            TRUE | FALSE => Ok(()),
            _ => self.skip_within(kind, MAX_DEPTH),
        }
    }

    fn skip_within(&mut self, kind: Type, depth: usize) -> Read<()> {
        let depth = depth.checked_sub(1).ok_or(Wrong::Invalid)?;
        match kind {
            TRUE | FALSE | BYTE => _ = self.byte()?,
            4..=I64 => _ = self.varint()?,
            DOUBLE => _ = self.bytes(8)?,
            BINARY => {
                let n = self.varint()?;
                self.bytes(n)?;
            }
            LIST | SET => {
                let (kind, n) = self.list()?;
                for _ in 0..n {
                    self.skip_within(kind, depth)?;
                }
            }
            MAP => {
                let n = self.varint()?;
                if n > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..n {
                        self.skip_within(kinds >> 4, depth)?;
                        self.skip_within(kinds & 0x0f, depth)?;
                    }
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((kind, id)) = self.field(last)? {
                    if kind != TRUE && kind != FALSE {
                        self.skip_within(kind, depth)?;
                    }
                    last = id;
                }
            }
            _ => return Err(Wrong::Invalid),
        }
        Ok(())
    }
}

/// Checks that a footer (`FileMetaData`) is whole, and that its schema is neither deeper nor larger than is read.
pub(super) fn check_footer(footer: &[u8]) -> Result<(), String> {
    let wrong = |_| "its footer is damaged".to_owned();
    let (mut reader, mut last) = (Reader::new(footer), 0);
    while let Some((kind, id)) = reader.field(last).map_err(wrong)? {
        if (kind, id) == (LIST, 2) {
            check_schema(&mut reader).map_err(|error| match error {
                Wrong::Cut => "its footer is damaged".to_owned(),
                Wrong::Invalid => format!(
                    "its schema is damaged, or has more than {MAX_SCHEMA_FIELDS} fields or {MAX_SCHEMA_DEPTH} within one another"
                ),
            })?;
        } else {
            reader.skip(kind).map_err(wrong)?;
        }
        last = id;
    }
    Ok(())
}

/// Checks a list of `SchemaElement`: a tree, each field before its children.
fn check_schema(reader: &mut Reader<'_>) -> Read<()> {
    let (kind, n) = reader.list()?;
    if kind != STRUCT || n > MAX_SCHEMA_FIELDS {
        return Err(Wrong::Invalid);
    }
    // How many fields are still to come at each level.
    let mut open: Vec<usize> = Vec::new();
    for i in 0..n {
        let (mut children, mut last) = (0, 0);
        while let Some((kind, id)) = reader.field(last)? {
            match (kind, id) {
                (4..=I64, 5) => children = usize::try_from(reader.integer()?).map_err(|_| Wrong::Invalid)?,
                _ => reader.skip(kind)?,
            }
            last = id;
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if i > 0 => return Err(Wrong::Invalid),
            None => {}
        }
        if children > n {
            return Err(Wrong::Invalid);
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(Wrong::Invalid);
        }
    }
    Ok(())
}
