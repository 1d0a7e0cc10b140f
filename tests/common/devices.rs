//! Devices that watch another one, for tests.
#![allow(unused_macros, unused_imports)] // in tests that share other things

/// Of an `impl Device`: the arithmetic and the memory of `$inner`, an expression of `$self`.
macro_rules! memory_of {
    ($self:ident, $inner:expr) => {
        fn arithmetic(&$self) -> String {
            $inner.arithmetic()
        }
        fn allocate(&$self, len: usize) -> Result<natv2::device::Buffer, natv2::device::Error> {
            $inner.allocate(len)
        }
        fn upload(
            &$self,
            buffer: &mut natv2::device::Buffer,
            offset: usize,
            data: &[f32],
        ) -> Result<(), natv2::device::Error> {
            $inner.upload(buffer, offset, data)
        }
        fn download(
            &$self,
            buffer: &natv2::device::Buffer,
            offset: usize,
            out: &mut [f32],
        ) -> Result<(), natv2::device::Error> {
            $inner.download(buffer, offset, out)
        }
    };
}
pub(crate) use memory_of;
