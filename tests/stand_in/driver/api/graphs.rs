//! Graphs of launches.

use super::modules::work;
use super::{pointer, put};
use crate::context::{Executable, Graph, Node};
use crate::launch::Asked;
use crate::state::{gives_back, in_context};
use cudarc::driver::sys::{CUDA_KERNEL_NODE_PARAMS, CUgraph, CUgraphExec, CUgraphNode, CUresult, CUstream};
use rand::RngExt;
use std::ffi::{c_uint, c_ulonglong};

/// Memory of the card that a graph takes for a node, as a round number.
const NODE_BYTES: usize = 4 << 10;

#[unsafe(no_mangle)]
extern "C" fn cuGraphCreate(graph: *mut CUgraph, _: c_uint) -> CUresult {
    in_context("cuGraphCreate", |shared, context| {
        let handle = shared.handle();
        context.graphs.insert(handle, Graph::default());
        put(graph, pointer(handle))
    })
}

/// Copies the parameters of the launch.
#[unsafe(no_mangle)]
extern "C" fn cuGraphAddKernelNode_v2(
    node: *mut CUgraphNode,
    graph: CUgraph,
    before: *const CUgraphNode,
    count: usize,
    parameters: *const CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    in_context("cuGraphAddKernelNode_v2", |shared, context| {
        if parameters.is_null() || (before.is_null() && count > 0) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the driver's contract: such a struct, and as many nodes.
        let (asked, before) = unsafe {
            let nodes = if count == 0 { &[][..] } else { std::slice::from_raw_parts(before, count) };
            (*parameters, nodes)
        };
        let prepared = context.prepare(
            shared,
            asked.func as usize,
            &Asked {
                grid: [asked.gridDimX, asked.gridDimY, asked.gridDimZ],
                block: [asked.blockDimX, asked.blockDimY, asked.blockDimZ],
                shared_bytes: asked.sharedMemBytes,
                parameters: asked.kernelParams,
                extra: asked.extra,
            },
        )?;
        let graph = context.graphs.get_mut(&(graph as usize)).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let place = |node: &CUgraphNode| graph.nodes.iter().position(|known| known.handle == *node as usize);
        let after: Option<Vec<usize>> = before.iter().map(place).collect();
        let after = after.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let handle = shared.handle();
        graph.nodes.push(Node { handle, prepared, after });
        put(node, pointer(handle))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut CUgraphExec,
    graph: CUgraph,
    _: c_ulonglong,
) -> CUresult {
    in_context("cuGraphInstantiateWithFlags", |shared, context| {
        let graph = context.graphs.get(&(graph as usize)).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let (nodes, bytes) = (graph.nodes.clone(), NODE_BYTES * graph.nodes.len());
        if bytes > shared.settings.memory.saturating_sub(context.bytes()) {
            return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        let handle = shared.handle();
        context.executables.insert(handle, Executable { nodes, bytes });
        put(executable, pointer(handle))
    })
}

/// A node comes behind those that it was put behind; of others one or the other comes first.
#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(executable: CUgraphExec, stream: CUstream) -> CUresult {
    in_context("cuGraphLaunch", |shared, context| {
        let found = context.executables.get(&(executable as usize));
        let mut left: Vec<Option<Node>> =
            found.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?.nodes.iter().cloned().map(Some).collect();
        loop {
            let is_ready =
                |node: &Node| node.after.iter().all(|&place| left.get(place).is_none_or(Option::is_none));
            let ready: Vec<usize> =
                (0..left.len()).filter(|&place| left[place].as_ref().is_some_and(is_ready)).collect();
            let choice = if shared.is_late() { 0 } else { shared.random.random_range(0..ready.len().max(1)) };
            let Some(node) = ready.get(choice).and_then(|&place| left[place].take()) else { return Ok(()) };
            context.ask(stream as usize, work(node.prepared), Vec::new())?;
        }
    })
}

/// What was launched of it goes on.
#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(executable: CUgraphExec) -> CUresult {
    gives_back("cuGraphExecDestroy", |_, context| {
        context.executables.remove(&(executable as usize)).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    gives_back("cuGraphDestroy", |_, context| {
        context.graphs.remove(&(graph as usize)).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        Ok(())
    })
}
