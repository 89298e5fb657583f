//! Kernels that follow each other the same way again and again, as in each pass of decoding: they are put together on the host and
//! given to the driver as one graph, which costs less than a launch each, and leaves less time between them on the GPU.
//!
//! Kernels are held back until something else needs the stream. What was held back is launched one by one, until the same sequence of
//! kernels comes up before a wait a second time; from then on it is a graph, in which only the parameters and grids that are others
//! than the last time are set.

use std::{collections::HashMap, ffi::c_void, ptr};

use cudarc::driver::{
    DriverError,
    sys::{self, CUDA_KERNEL_NODE_PARAMS, CUfunction, CUgraph, CUgraphExec, CUgraphNode, CUstream},
};

/// Fewer kernels than this are launched one by one.
const LEAST: usize = 16;
/// So many are held back at most: then the GPU is to begin.
const MOST: usize = 2048;
/// Graphs that are kept, for as many sequences of kernels.
const KEPT: usize = 64;

/// A kernel to be launched.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) function: CUfunction,
    pub(crate) grid: [u32; 3],
    pub(crate) threads: u32,
    pub(crate) shared: u32,
    /// Its parameters: words of the arena, from the first on.
    start: usize,
    words: usize,
}

/// Kernels one after the other, with their parameters.
#[derive(Default)]
struct Sequence {
    calls: Vec<Call>,
    arena: Vec<u64>,
}

/// A sequence as a graph.
struct Graph {
    made_of: CUgraph,
    executable: CUgraphExec,
    nodes: Vec<CUgraphNode>,
    /// What its nodes are set to.
    set: Sequence,
}

/// A sequence of kernels that came up.
enum Known {
    Once,
    Graph(Graph),
}

/// What is held back, and the graphs.
#[derive(Default)]
pub(crate) struct Replay {
    held: Sequence,
    known: HashMap<Vec<usize>, Known>,
}

impl Sequence {
    /// The parameters of a call.
    fn params(&self, call: Call) -> &[u64] {
        &self.arena[call.start..call.start + call.words]
    }

    /// What distinguishes sequences: the kernels.
    fn key(&self) -> Vec<usize> {
        self.calls.iter().map(|call| call.function as usize).collect()
    }

    fn clear(&mut self) {
        self.calls.clear();
        self.arena.clear();
    }

    /// The call as the driver wants it; `arguments` lives until it is read.
    fn node(&self, call: Call, arguments: &mut [*mut c_void; 1]) -> CUDA_KERNEL_NODE_PARAMS {
        arguments[0] = self.params(call).as_ptr().cast_mut().cast();
        let [x, y, z] = call.grid;
        CUDA_KERNEL_NODE_PARAMS {
            func: call.function,
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: call.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: call.shared,
            kernelParams: arguments.as_mut_ptr(),
            extra: ptr::null_mut(),
            kern: ptr::null_mut(),
            ctx: ptr::null_mut(),
        }
    }
}

impl Replay {
    /// Holds a kernel back. Says whether it is time to launch what is held.
    pub(crate) fn hold(
        &mut self,
        name: &'static str,
        function: CUfunction,
        grid: [u32; 3],
        [threads, shared]: [u32; 2],
        params: &[u8],
    ) -> bool {
        let start = self.held.arena.len();
        let words = params.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        });
        self.held.arena.extend(words);
        let words = self.held.arena.len() - start;
        self.held.calls.push(Call { name, function, grid, threads, shared, start, words });
        self.held.calls.len() >= MOST
    }

    /// Launches what is held on `stream`, one by one, or, `before_a_wait`, as a graph where that is known. An error comes with the
    /// call that it is of, if it is of one.
    pub(crate) fn launch(
        &mut self,
        stream: CUstream,
        before_a_wait: bool,
    ) -> Result<(), (Option<Call>, DriverError)> {
        let done = self.launch_held(stream, before_a_wait);
        self.held.clear();
        done
    }

    fn launch_held(
        &mut self,
        stream: CUstream,
        before_a_wait: bool,
    ) -> Result<(), (Option<Call>, DriverError)> {
        let held = &mut self.held;
        if !before_a_wait || held.calls.len() < LEAST {
            return launch_each(held, stream);
        }
        let key = held.key();
        match self.known.get_mut(&key) {
            None => {
                if self.known.len() >= KEPT {
                    self.known.retain(|_, known| matches!(known, Known::Graph(_)));
                }
                if self.known.len() >= KEPT {
                    self.known.clear();
                }
                self.known.insert(key, Known::Once);
                launch_each(held, stream)
            }
            Some(known @ Known::Once) => {
                let graph = Graph::new(held).map_err(|error| (None, error))?;
                // SAFETY: the graph is executable, its kernels are of this stream's device, and the parameters are copied.
                unsafe { sys::cuGraphLaunch(graph.executable, stream) }
                    .result()
                    .map_err(|error| (None, error))?;
                *known = Known::Graph(graph);
                Ok(())
            }
            Some(Known::Graph(graph)) => {
                graph.set(held)?;
                // SAFETY: as above.
                unsafe { sys::cuGraphLaunch(graph.executable, stream) }
                    .result()
                    .map_err(|error| (None, error))
            }
        }
    }
}

fn launch_each(held: &Sequence, stream: CUstream) -> Result<(), (Option<Call>, DriverError)> {
    for &call in &held.calls {
        let mut arguments = [ptr::null_mut()];
        let node = held.node(call, &mut arguments);
        let [x, y, z] = call.grid;
        // SAFETY: the one argument has the size of the kernel's parameters, which the driver copies before it returns.
        let answer = unsafe {
            sys::cuLaunchKernel(
                call.function,
                x,
                y,
                z,
                call.threads,
                1,
                1,
                call.shared,
                stream,
                node.kernelParams,
                ptr::null_mut(),
            )
        };
        answer.result().map_err(|error| (Some(call), error))?;
    }
    Ok(())
}

impl Graph {
    /// A graph of the calls, each after the one before.
    fn new(held: &mut Sequence) -> Result<Self, DriverError> {
        let mut made = Self {
            made_of: ptr::null_mut(),
            executable: ptr::null_mut(),
            nodes: Vec::with_capacity(held.calls.len()),
            set: Sequence::default(),
        };
        // SAFETY: the graph is new; parameters are copied when a node is added; what is made is destroyed when dropped.
        unsafe {
            sys::cuGraphCreate(&raw mut made.made_of, 0).result()?;
            for &call in &held.calls {
                let mut arguments = [ptr::null_mut()];
                let params = held.node(call, &mut arguments);
                let mut node = ptr::null_mut();
                let before = made.nodes.last().map_or(ptr::null(), ptr::from_ref);
                let count = usize::from(!before.is_null());
                sys::cuGraphAddKernelNode_v2(&raw mut node, made.made_of, before, count, &raw const params)
                    .result()?;
                made.nodes.push(node);
            }
            sys::cuGraphInstantiateWithFlags(&raw mut made.executable, made.made_of, 0).result()?;
        }
        std::mem::swap(&mut made.set, held);
        Ok(made)
    }

    /// Sets what is another than it was. The kernels are the same.
    fn set(&mut self, held: &mut Sequence) -> Result<(), (Option<Call>, DriverError)> {
        for ((&call, &was), &node) in held.calls.iter().zip(&self.set.calls).zip(&self.nodes) {
            let place = Call { start: was.start, ..call };
            if place == was && held.params(call) == self.set.params(was) {
                continue;
            }
            let mut arguments = [ptr::null_mut()];
            let params = held.node(call, &mut arguments);
            // SAFETY: the node is of this graph, of the same kernel, and the parameters are copied before it returns.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, node, &raw const params) }
                .result()
                .map_err(|error| (Some(call), error))?;
        }
        std::mem::swap(&mut self.set, held);
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both are this structure's own; a launch that is under way keeps what it needs.
        unsafe {
            if !self.executable.is_null() {
                let _ = sys::cuGraphExecDestroy(self.executable).result();
            }
            if !self.made_of.is_null() {
                let _ = sys::cuGraphDestroy(self.made_of).result();
            }
        }
    }
}
