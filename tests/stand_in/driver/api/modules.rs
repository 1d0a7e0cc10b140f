//! Modules, their functions, and launches.

use super::{pointer, put};
use crate::context::{Context, Function, Module};
use crate::image::{self, Kernel};
use crate::launch::Asked;
use crate::state::{Shared, gives_back, in_context};
use crate::streams::Work;
use crate::{context::Prepared, emulator};
use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule, CUresult, CUstream};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

fn load(
    shared: &mut Shared,
    context: &mut Context,
    module: *mut CUmodule,
    data: *const c_void,
) -> Result<(), CUresult> {
    if data.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let refuse = |shared: &mut Shared, error: image::Error| {
        shared.note(format!("an image is refused: {error}"));
        match error {
            image::Error::NoBinary { .. } => CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
            _ => CUresult::CUDA_ERROR_INVALID_IMAGE,
        }
    };
    // SAFETY: the driver's contract: an image is there, as long as it says itself.
    let found = unsafe { image::bytes_at(data.cast()) };
    let found = found.and_then(|bytes| image::read(bytes, shared.settings.compute));
    let image = found.map_err(|error| refuse(shared, error))?;
    let version = shared.settings.cuda.unsigned_abs();
    let supported = (version / 1000, version % 1000 / 10);
    if let Some(release) = image.release.filter(|release| *release > supported) {
        let ((major, minor), (most, _)) = (release, supported);
        let is_ptx = image.kernels.values().any(|kernel| kernel.kind != image::Kind::Machine);
        // Machine code of a later minor release is known too.
        if is_ptx || major > most {
            shared.note(format!("an image is refused: it is of CUDA {major}.{minor}"));
            let code = CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
            return Err(if is_ptx { code } else { CUresult::CUDA_ERROR_INVALID_IMAGE });
        }
    }
    image.kernels.values().for_each(|kernel| compare(shared, kernel));
    let handle = shared.handle();
    context.modules.insert(handle, Module { image, functions: BTreeMap::new() });
    put(module, pointer(handle))
}

/// The C++ compiler of the emulator and that of the card lay parameters out alike.
fn compare(shared: &mut Shared, kernel: &Kernel) {
    let of_image = kernel.parameter_bytes();
    if let Some(known) = emulator::known(&kernel.name).filter(|known| known.bytes != of_image) {
        shared.report.fault(format!(
            "kernel {} has parameters of {of_image:?} bytes in its image, and of {:?} on the emulator",
            kernel.name, known.bytes
        ));
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: *mut CUmodule, data: *const c_void) -> CUresult {
    in_context("cuModuleLoadData", |shared, context| load(shared, context, module, data))
}

/// Options are of the translation of PTX, which is not translated here.
#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    data: *const c_void,
    _: c_uint,
    _: *mut c_void,
    _: *mut *mut c_void,
) -> CUresult {
    in_context("cuModuleLoadDataEx", |shared, context| load(shared, context, module, data))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: CUmodule) -> CUresult {
    gives_back("cuModuleUnload", |shared, context| {
        let handle = module as usize;
        if !context.modules.contains_key(&handle) {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        let in_graph = context
            .executables
            .values()
            .any(|graph| graph.nodes.iter().any(|node| node.prepared.module == handle));
        if in_graph || context.is_launched(handle) {
            shared.report.fault(
                "a module is unloaded while its kernels are still to run, or are in a graph".to_owned(),
            );
        }
        context.modules.remove(&handle);
        context.functions.retain(|_, function| function.module != handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    in_context("cuModuleGetFunction", |shared, context| {
        if name.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the driver's contract: a name that ends with NUL.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        let id = module as usize;
        let found = context.modules.get_mut(&id).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        if let Some(&known) = found.functions.get(&name) {
            return put(function, pointer(known));
        }
        let kernel = found.image.kernels.get(&name).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?.clone();
        let handle = shared.handle();
        found.functions.insert(name, handle);
        context.functions.insert(handle, Function::new(id, kernel));
        put(function, pointer(handle))
    })
}

fn of(context: &mut Context, function: CUfunction) -> Result<&mut Function, CUresult> {
    context.functions.get_mut(&(function as usize)).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(
    value: *mut c_int,
    attribute: CUfunction_attribute,
    function: CUfunction,
) -> CUresult {
    in_context("cuFuncGetAttribute", |shared, context| {
        use CUfunction_attribute as A;
        let function = of(context, function)?;
        let (major, minor) = function.kernel.architecture;
        let found = match attribute {
            A::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => function.most_threads(),
            A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => function.kernel.static_shared_bytes,
            A::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => function.kernel.local_bytes,
            A::CU_FUNC_ATTRIBUTE_NUM_REGS => function.kernel.registers,
            A::CU_FUNC_ATTRIBUTE_BINARY_VERSION => 10 * major + minor,
            A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => function.most_dynamic,
            A::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => return put(value, function.carveout),
            other => {
                shared.note(format!("{other:?} is not known here"));
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
        };
        put(value, c_int::try_from(found).unwrap_or(c_int::MAX))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: CUfunction_attribute,
    value: c_int,
) -> CUresult {
    in_context("cuFuncSetAttribute", |shared, context| {
        use CUfunction_attribute as A;
        let function = of(context, function)?;
        match attribute {
            A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let most = shared.settings.most_shared().saturating_sub(function.kernel.static_shared_bytes);
                let wanted = u32::try_from(value).ok().filter(|wanted| *wanted <= most);
                function.most_dynamic = wanted.ok_or_else(|| {
                    let name = &function.kernel.name;
                    shared.note(format!(
                        "{value} bytes of dynamic shared memory for {name}, which may have {most}"
                    ));
                    CUresult::CUDA_ERROR_INVALID_VALUE
                })?;
            }
            A::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => {
                function.carveout = value;
                shared.report.count(&format!("carve-out of {value}"));
            }
            _ => return Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
        Ok(())
    })
}

/// Place and size of a parameter; `CUDA_ERROR_INVALID_VALUE` behind the last.
#[unsafe(no_mangle)]
extern "C" fn cuFuncGetParamInfo(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    bytes: *mut usize,
) -> CUresult {
    in_context("cuFuncGetParamInfo", |_, context| {
        let function = of(context, function)?;
        let found = function.kernel.parameters.get(index).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        put(offset, found.offset as usize)?;
        // Who does not want the size passes null.
        if bytes.is_null() { Ok(()) } else { put(bytes, found.bytes as usize) }
    })
}

/// The work of a launch that was checked.
pub fn work(prepared: Prepared) -> Work {
    let Prepared { module, launch } = prepared;
    launch.map_or(Work::Idle, |launch| Work::Launch { launch, module })
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    in_context("cuLaunchKernel", |shared, context| {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let asked = Asked { grid, block, shared_bytes, parameters, extra };
        let prepared = context.prepare(shared, function as usize, &asked)?;
        context.ask(stream as usize, work(prepared), Vec::new()).map(drop)
    })
}
