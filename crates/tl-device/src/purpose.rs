//! The purpose of a memory request: its role and the requesting operation.

/// The role of memory.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// let _weight = device.take(&Layout::from(vec![100]), Role::Learnable)?;
/// let _keys = device.take(&Layout::from(vec![50]), Role::Cache)?;
/// let stats = device.stats();
/// assert_eq!((stats.learnable_bytes, stats.cache_bytes, stats.activation_bytes()), (200, 100, 0));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The result of an operation: from the tensor buffer, the pool, or the device.
    Activation,
    /// Keys and values that stay from step to step. Served like activations, and counted separately.
    Cache,
    /// A parameter: from the learnable reserve or the device, never the pool, and returned to the system when dropped.
    Learnable,
}

/// The role of memory, and the requesting operation.
///
/// ```
/// use tl_device::{Action, Device, Layout, Purpose, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// drop(device.take(&Layout::from(vec![8]), Purpose { role: Role::Activation, op: "softmax" })?);
/// let event = device.stop_trace().events().next().unwrap();
/// assert!(matches!(event.action, Action::Take { op: "softmax", .. }));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// The role.
    pub role: Role,
    /// The operation's name, for traces and errors.
    pub op: &'static str,
}

impl From<Role> for Purpose {
    fn from(role: Role) -> Self {
        Purpose { role, op: "take" }
    }
}
