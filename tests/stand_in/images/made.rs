//! Images that tests write byte by byte, as nvcc would.

/// A kernel of machine code.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: &'static str,
    /// Attributes of its section, whole.
    pub attributes: Vec<u8>,
    /// The size of its section of shared memory, if it has one.
    pub shared: Option<u64>,
    /// The size of its bank of constants.
    pub constants: u64,
    pub registers: Option<u32>,
    pub stack: u32,
}

/// What an ELF file of machine code is for.
#[derive(Debug, Clone)]
pub struct Header {
    pub interface: u8,
    pub flags: u32,
    /// Whether the system has shared memory of each block.
    pub system_shared: bool,
    /// The section `.nv.compat`, if it has one.
    pub compatible: Option<Vec<u8>>,
}

/// That of nvcc 13.
pub fn header(number: u32) -> Header {
    Header { interface: 8, flags: number << 8 | 4, system_shared: number >= 90, compatible: None }
}

/// An attribute with a value of any length.
pub fn sized(what: u8, value: &[u8]) -> Vec<u8> {
    [&[4, what, value.len() as u8, 0], value].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The attribute of a parameter, as nvcc writes it.
pub fn parameter(number: u16, offset: u16, bytes: u16) -> Vec<u8> {
    sized(0x17, &words(&[0, u32::from(offset) << 16 | u32::from(number), u32::from(bytes) << 18 | 0x1_f000]))
}

/// The same for parameters that may be as large as any.
pub fn large_parameter(number: u16, offset: u16, bytes: u16) -> Vec<u8> {
    sized(0x45, &words(&[0, u32::from(offset) << 16 | u32::from(number), bytes.into()]))
}

/// The attributes that say how many bytes the parameters have, and where they are in the bank of constants.
pub fn parameters_size(bytes: u16) -> Vec<u8> {
    let [low, high] = bytes.to_le_bytes();
    [vec![3, 0x19, low, high], sized(0x0a, &words(&[9, u32::from(bytes) << 16 | 0x210]))].concat()
}

/// The attribute of launch bounds.
pub fn bounds(axes: [u32; 3]) -> Vec<u8> {
    sized(0x05, &words(&axes))
}

/// The attribute of the threads that a block must have.
pub fn required(axes: [u32; 3]) -> Vec<u8> {
    sized(0x10, &words(&axes))
}

/// The attribute of the release of CUDA.
pub fn release(version: u32) -> Vec<u8> {
    sized(0x37, &words(&[version]))
}

/// A kernel with these parameters, given as offset and bytes.
pub fn kernel(name: &'static str, parameters: &[(u16, u16)]) -> Made {
    let mut attributes = release(130);
    for (number, &(offset, bytes)) in parameters.iter().enumerate().rev() {
        attributes.extend(parameter(number as u16, offset, bytes));
    }
    // Some that say nothing here, in each way of writing them.
    attributes.extend([1, 0x41, 0, 0, 2, 0x4c, 1, 0, 3, 0x1b, 255, 0, 4, 0x1c, 2, 0, 0x05, 0x04, 0, 0]);
    let end = parameters.last().map_or(0, |(offset, bytes)| offset + bytes);
    if end > 0 {
        attributes.extend(parameters_size(end));
    }
    Made { name, attributes, shared: None, constants: 0x210 + u64::from(end), registers: Some(32), stack: 0 }
}

struct Section {
    name: String,
    kind: u32,
    link: u32,
    size: u64,
    bytes: Vec<u8>,
}

/// Adds a name to a section of names, and gives its offset.
fn name(names: &mut Vec<u8>, name: &str) -> u32 {
    let offset = names.len() as u32;
    names.extend(name.bytes().chain([0]));
    offset
}

/// An ELF file of these kernels.
pub fn machine_code(header: &Header, kernels: &[Made]) -> Vec<u8> {
    let section = |name: &str, kind, bytes: Vec<u8>| Section {
        name: name.to_owned(),
        kind,
        link: 0,
        size: bytes.len() as u64,
        bytes,
    };
    let (mut symbol_names, mut symbols) = (vec![0], vec![0; 24]);
    let mut global = Vec::new();
    let mut sections = vec![section("", 0, vec![]), section(".shstrtab", 3, vec![])];
    // A function that is no kernel, and something that is no function.
    let others = [("helper", 2, 0), ("table", 1, 0x10)];
    let all = kernels.iter().map(|kernel| (kernel.name, 0x12, 0x10)).chain(others);
    for (index, (symbol, info, other)) in all.enumerate() {
        symbols.extend(name(&mut symbol_names, symbol).to_le_bytes());
        symbols.extend([info, other, 0, 0]);
        symbols.extend([0; 16]);
        if let Some(kernel) = kernels.get(index) {
            let number = index as u32 + 1;
            global.extend(kernel.registers.iter().flat_map(|count| sized(0x2f, &words(&[number, *count]))));
            // Its own frame is the smaller part of it, whatever comes last.
            for (what, bytes) in [(0x11, kernel.stack / 2), (0x12, kernel.stack), (0x11, kernel.stack / 4)] {
                global.extend(sized(what, &words(&[number, bytes])));
            }
        }
    }
    sections.push(section(".strtab", 3, symbol_names));
    sections.push(Section { link: 2, ..section(".symtab", 2, symbols) });
    sections.push(section(".nv.info", 0x7000_0000, global));
    sections.extend(header.compatible.iter().map(|bytes| section(".nv.compat", 0x7000_0086, bytes.clone())));
    for kernel in kernels {
        let of = |prefix: &str| format!("{prefix}{}", kernel.name);
        sections.push(section(&of(".nv.info."), 0x7000_0000, kernel.attributes.clone()));
        sections.push(section(&of(".text."), 1, vec![0x18; 128]));
        sections.push(section(&of(".nv.constant0."), 1, vec![0; kernel.constants as usize]));
        let none = |size| Section { size, ..section(&of(".nv.shared."), 8, vec![]) };
        sections.extend(kernel.shared.map(none));
    }
    if header.system_shared {
        sections.push(section(".nv.shared.reserved.0", 8, vec![]));
    }
    let mut names = Vec::new();
    let name_offsets: Vec<u32> = sections.iter().map(|section| name(&mut names, &section.name)).collect();
    (sections[1].size, sections[1].bytes) = (names.len() as u64, names);

    let mut file = vec![0; 64];
    let mut headers = Vec::new();
    for (section, name) in sections.iter().zip(name_offsets) {
        headers.extend(words(&[name, section.kind]));
        headers.extend([0; 16]);
        headers.extend((file.len() as u64).to_le_bytes());
        headers.extend(section.size.to_le_bytes());
        headers.extend(words(&[section.link, 0]));
        headers.extend([0; 16]);
        file.extend(&section.bytes);
    }
    let start = file.len() as u64;
    file.extend(headers);
    file[..16].copy_from_slice(&[
        0x7f,
        b'E',
        b'L',
        b'F',
        2,
        1,
        1,
        0x41,
        header.interface,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    file[16..20].copy_from_slice(&[2, 0, 190, 0]);
    file[40..48].copy_from_slice(&start.to_le_bytes());
    file[48..52].copy_from_slice(&header.flags.to_le_bytes());
    file[52..64].copy_from_slice(&[64, 0, 56, 0, 0, 0, 64, 0, sections.len() as u8, 0, 1, 0]);
    file
}

/// How a part of a fat binary is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Not,
    Zstd,
    Lz4,
}

/// A part of a fat binary.
#[derive(Debug, Clone)]
pub struct Part {
    /// 1 for PTX, 2 for machine code.
    pub kind: u16,
    pub number: u32,
    /// 0x10_0000 for the card alone, 0x20_0000 for its family.
    pub scope: u64,
    pub packing: Packing,
    pub bytes: Vec<u8>,
}

/// Machine code with one kernel, named after what it is for.
pub fn machine_part(number: u32, name: &'static str) -> Part {
    let bytes = machine_code(&header(number), &[kernel(name, &[(0, 8)])]);
    Part { kind: 2, number, scope: 0, packing: Packing::Not, bytes }
}

/// PTX with one kernel.
pub fn ptx_part(number: u32, suffix: &str, name: &str) -> Part {
    let text =
        format!(".version 9.0\n.target sm_{number}{suffix}\n.entry {name}(.param .u64 p) {{ exit; }}\n");
    Part { kind: 1, number, scope: 0, packing: Packing::Not, bytes: text.into_bytes() }
}

/// A fat binary.
pub fn fat(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let (packed, flag) = match part.packing {
            Packing::Not => (part.bytes.clone(), 0),
            Packing::Zstd => (zstd(&part.bytes), 0x8000),
            Packing::Lz4 => (lz4(&part.bytes), 0x2000),
        };
        let is_packed = part.packing != Packing::Not;
        let padded = packed.len().next_multiple_of(8);
        body.extend([part.kind.to_le_bytes(), 0x101_u16.to_le_bytes()].concat());
        body.extend(words(&[64]));
        body.extend((padded as u64).to_le_bytes());
        body.extend(words(&[if is_packed { packed.len() as u32 } else { 0 }, 0, 9 << 16, part.number, 0, 0]));
        body.extend((0x11 | flag | part.scope).to_le_bytes());
        body.extend([0; 8]);
        body.extend((if is_packed { part.bytes.len() as u64 } else { 0 }).to_le_bytes());
        body.extend(&packed);
        body.resize(body.len() + padded - packed.len(), 0);
    }
    let mut whole = words(&[0xba55_ed50, 16 << 16 | 1]);
    whole.extend((body.len() as u64).to_le_bytes());
    whole.extend(body);
    whole
}

/// A Zstandard frame whose blocks are as they are.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = words(&[0xfd2f_b528]);
    // The size in four bytes, and the whole as the window.
    frame.push(0xa0);
    frame.extend((bytes.len() as u32).to_le_bytes());
    let blocks: Vec<&[u8]> = bytes.chunks(1 << 16).collect();
    for (index, block) in blocks.iter().enumerate() {
        let last = u32::from(index + 1 == blocks.len());
        frame.extend(&((block.len() as u32) << 3 | last).to_le_bytes()[..3]);
        frame.extend(*block);
    }
    frame
}

/// An LZ4 block without copies.
pub fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    if bytes.len() < 15 {
        block.push((bytes.len() as u8) << 4);
    } else {
        let rest = bytes.len() - 15;
        block.push(0xf0);
        block.extend(vec![255; rest / 255]);
        block.push((rest % 255) as u8);
    }
    block.extend(bytes);
    block
}
