//! The driver and its cards.

use super::put;
use crate::launch::{MOST_THREADS, SHARED};
use crate::state::{State, always, initialise, initialised};
use cudarc::driver::sys::{CUdevice, CUdevice_attribute, CUresult, CUuuid};
use std::ffi::{c_char, c_int, c_uint, c_void};

/// The name of every card.
const NAME: &[u8] = b"stand-in driver (emulated kernels)";

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> CUresult {
    if flags == 0 { initialise() } else { CUresult::CUDA_ERROR_INVALID_VALUE }
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    always("cuDriverGetVersion", |state| put(version, state.shared.settings.cuda))
}

/// Tables of functions that NVIDIA's own libraries know of; there are none here. NVRTC looks for one, to keep images by
/// itself, and does without; where this function is missing it reads a null pointer.
#[unsafe(no_mangle)]
extern "C" fn cuGetExportTable(_: *mut *const c_void, _: *const CUuuid) -> CUresult {
    always("cuGetExportTable", |_| Err(CUresult::CUDA_ERROR_NOT_FOUND))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    initialised("cuDeviceGetCount", |state| put(count, state.shared.settings.cards))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    initialised("cuDeviceGet", |state| {
        known(state, ordinal)?;
        put(device, ordinal)
    })
}

/// Whether there is such a card.
pub fn known(state: &State, device: CUdevice) -> Result<(), CUresult> {
    let there = (0..state.shared.settings.cards).contains(&device);
    if there { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_DEVICE) }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: CUdevice) -> CUresult {
    initialised("cuDeviceGetName", |state| {
        known(state, device)?;
        let room = usize::try_from(length).unwrap_or(0);
        if name.is_null() || room == 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let bytes = NAME.len().min(room - 1);
        // SAFETY: the driver's contract: `length` bytes are there, more than are written.
        unsafe {
            std::ptr::copy_nonoverlapping(NAME.as_ptr(), name.cast(), bytes);
            name.add(bytes).write(0);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    initialised("cuDeviceGetUuid_v2", |state| {
        known(state, device)?;
        put(uuid, CUuuid { bytes: [device as c_char; 16] })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> CUresult {
    initialised("cuDeviceTotalMem_v2", |state| {
        known(state, device)?;
        put(bytes, state.shared.settings.memory)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: CUdevice_attribute,
    device: CUdevice,
) -> CUresult {
    initialised("cuDeviceGetAttribute", |state| {
        use CUdevice_attribute as A;
        known(state, device)?;
        let (major, minor) = state.shared.settings.compute;
        // An H100's figures, where the environment does not say.
        let found = match attribute {
            A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => major,
            A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => minor,
            A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => 132,
            A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE => 1_980_000,
            A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE => 2_619_000,
            A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH => 5120,
            // Small, so that measurements that go beyond it are short.
            A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE => 1 << 20,
            A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK => SHARED,
            A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => state.shared.settings.most_shared(),
            A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK => MOST_THREADS,
            A::CU_DEVICE_ATTRIBUTE_WARP_SIZE => 32,
            A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED => 1,
            other => {
                state.shared.note(format!("{other:?} is not known here"));
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
        };
        put(value, c_int::try_from(found).unwrap_or(c_int::MAX))
    })
}
