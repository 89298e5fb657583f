//! A kernel's parameters, and its launch.

/// The one parameter of a kernel: the structure that its source declares, field by field.
///
/// # Safety
/// Implementors are `repr(C)` and have no padding.
pub(crate) unsafe trait Params: Copy {}

/// Declares the parameters of kernels: addresses first, then numbers of 4 bytes, an even number of them.
macro_rules! params {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        #[allow(clippy::struct_field_names, reason = "fields have the names that kernels give them")]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }

        const _: () = assert!(
            size_of::<$name>() == 0 $(+ size_of::<$type>())*,
            "parameters with padding: add a field"
        );
        // SAFETY: repr(C), and its size is the sum of its fields'.
        unsafe impl $crate::launch::Params for $name {}
    };
}
pub(crate) use params;

/// The bytes of parameters.
pub(crate) fn bytes_of<P: Params>(params: &P) -> &[u8] {
    // SAFETY: no padding, and bytes have any alignment.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast(), size_of::<P>()) }
}
