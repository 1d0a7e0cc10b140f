//! Protocol buffers, as far as an ONNX file needs them.
//!
//! A message is a list of fields, each a key (`field number * 8 + wire type`) and a value: a variable
//! length integer, four bytes, or a length and that many bytes. [`Message`] appends fields to bytes;
//! the field numbers are those of `onnx.proto` (IR version 8). Fields are written in a fixed order, so
//! equal models give equal bytes.

/// Element type of tensors: `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// A message being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer field.
    pub fn int(mut self, field: u64, value: i64) -> Message {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    /// A field of four bytes.
    pub fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A field of bytes: text, or numbers as they lie in memory.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A field of text.
    pub fn text(self, field: u64, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    /// A field that is a message.
    pub fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    /// One field for each of `values`.
    pub fn each<T>(
        self,
        values: impl IntoIterator<Item = T>,
        add: impl Fn(Message, T) -> Message,
    ) -> Message {
        values.into_iter().fold(self, add)
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// `AttributeProto` of one float.
pub(super) fn float(name: &str, value: f32) -> Message {
    Message::default().text(1, name).float(2, value).int(20, 1)
}

/// `AttributeProto` of one integer.
pub(super) fn int(name: &str, value: i64) -> Message {
    Message::default().text(1, name).int(3, value).int(20, 2)
}

/// `AttributeProto` of a list of integers.
pub(super) fn ints(name: &str, values: &[usize]) -> Message {
    let attribute = Message::default().text(1, name);
    attribute.each(values, |m, &value| m.int(8, value as i64)).int(20, 7)
}

/// `NodeProto`: an operator with one output, after which it is named.
pub(super) fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    Message::default()
        .each(inputs, |m, input| m.text(1, input))
        .text(2, output)
        .text(3, output)
        .text(4, operator)
        .each(attributes, |m, attribute| m.message(5, attribute))
}

/// `TensorProto` of f32.
pub(super) fn tensor(name: &str, shape: &[usize], data: &[f32]) -> Message {
    let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    Message::default()
        .each(shape, |m, &side| m.int(1, side as i64))
        .int(2, FLOAT as i64)
        .text(8, name)
        .bytes(9, &bytes)
}

/// `ValueInfoProto` of f32 whose first dimension, the images, is free.
pub(super) fn value(name: &str, rest: &[usize]) -> Message {
    let images = Message::default().text(2, "batch");
    let shape = Message::default()
        .message(1, &images)
        .each(rest, |m, &side| m.message(1, &Message::default().int(1, side as i64)));
    let tensor = Message::default().int(1, FLOAT as i64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_the_specification_shows() {
        // The examples of protobuf.dev/programming-guides/encoding.
        assert_eq!(Message::default().int(1, 150).finish(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing").finish();
        assert_eq!(text, [&[0x12, 0x07][..], b"testing"].concat());
        let inner = Message::default().int(1, 150);
        assert_eq!(Message::default().message(3, &inner).finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().int(1, -2).finish().len(), 11);
        assert_eq!(Message::default().float(2, 1.0).finish(), [0x15, 0, 0, 0x80, 0x3f]);
    }
}
