//! Streams and events.

use super::{pointer, put};
use crate::context::{Context, Event};
use crate::state::{Shared, gives_back, in_context};
use crate::streams::{DEFAULT, Stream, Work};
use cudarc::driver::sys::{CUevent, CUresult, CUstream};
use std::ffi::{c_int, c_uint};

/// The flag of a stream that does not wait for the default stream.
const NON_BLOCKING: c_uint = 1;
/// The flag of an event that keeps no time.
const DISABLE_TIMING: c_uint = 2;

fn create(symbol: &str, stream: *mut CUstream, flags: c_uint) -> CUresult {
    in_context(symbol, |shared, context| {
        let handle = shared.handle();
        context.streams.insert(handle, Stream::new(flags & NON_BLOCKING == 0));
        put(stream, pointer(handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: *mut CUstream, flags: c_uint) -> CUresult {
    create("cuStreamCreate", stream, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(stream: *mut CUstream, flags: c_uint, _: c_int) -> CUresult {
    create("cuStreamCreateWithPriority", stream, flags)
}

/// What was asked of it goes on.
#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    gives_back("cuStreamDestroy_v2", |_, context| {
        let found = context.streams.get_mut(&(stream as usize)).filter(|found| found.open);
        let found = found.filter(|_| stream as usize != DEFAULT);
        found.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?.open = false;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: CUstream) -> CUresult {
    in_context("cuStreamSynchronize", |shared, context| {
        let end = context.end_of(stream as usize)?;
        context.run_to(shared, end);
        Ok(())
    })
}

fn answer(done: bool) -> Result<(), CUresult> {
    if done { Ok(()) } else { Err(CUresult::CUDA_ERROR_NOT_READY) }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: CUstream) -> CUresult {
    in_context("cuStreamQuery", |shared, context| {
        let end = context.end_of(stream as usize)?;
        answer(context.query(shared, end))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: CUstream, event: CUevent, _: c_uint) -> CUresult {
    in_context("cuStreamWaitEvent", |shared, context| {
        let after = of(shared, context, event)?.recorded.into_iter().collect();
        context.ask(stream as usize, Work::Wait, after).map(drop)
    })
}

/// The event of a handle.
fn of<'a>(shared: &mut Shared, context: &'a mut Context, event: CUevent) -> Result<&'a mut Event, CUresult> {
    let found = context.events.get_mut(&(event as usize));
    if found.is_none() {
        shared.note("an event is no event of the context: of another one, or destroyed".to_owned());
    }
    found.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> CUresult {
    in_context("cuEventCreate", |shared, context| {
        let handle = shared.handle();
        let made = Event { timing: flags & DISABLE_TIMING == 0, recorded: None, time: None };
        context.events.insert(handle, made);
        put(event, pointer(handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    gives_back("cuEventDestroy_v2", |shared, context| {
        of(shared, context, event)?;
        context.events.remove(&(event as usize));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    in_context("cuEventRecord", |shared, context| {
        let timing = of(shared, context, event)?.timing;
        let idle = context.streams.get(&(stream as usize)).is_some_and(Stream::is_idle);
        if timing && idle {
            shared.report.count("an event on an idle stream");
        }
        let point = context.ask(stream as usize, Work::Record { event: event as usize }, Vec::new())?;
        let event = of(shared, context, event)?;
        (event.recorded, event.time) = (Some(point), None);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: CUevent) -> CUresult {
    in_context("cuEventQuery", |shared, context| {
        let recorded = of(shared, context, event)?.recorded;
        answer(recorded.is_none_or(|point| context.query(shared, point)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: CUevent) -> CUresult {
    in_context("cuEventSynchronize", |shared, context| {
        if let Some(point) = of(shared, context, event)?.recorded {
            context.run_to(shared, point);
        }
        Ok(())
    })
}

fn elapsed(symbol: &str, milliseconds: *mut f32, from: CUevent, to: CUevent) -> CUresult {
    in_context(symbol, |shared, context| {
        let mut time = |event| {
            let Event { timing, recorded, time } = of(shared, context, event)?;
            if !*timing || recorded.is_none() {
                return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
            }
            time.ok_or(CUresult::CUDA_ERROR_NOT_READY)
        };
        let (from, to) = (time(from)?, time(to)?);
        put(milliseconds, to.saturating_duration_since(from).as_secs_f32() * 1e3)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, from: CUevent, to: CUevent) -> CUresult {
    elapsed("cuEventElapsedTime", milliseconds, from, to)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: *mut f32, from: CUevent, to: CUevent) -> CUresult {
    elapsed("cuEventElapsedTime_v2", milliseconds, from, to)
}
