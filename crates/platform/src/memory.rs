//! What the allocator does with memory that is freed.

/// Allocations from this size on are maps of their own, which go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: libc::c_int = 2 << 20;

/// Lets the allocator give large buffers back when they are freed. Call it once, before there are other threads.
///
/// glibc raises its threshold for maps of their own with each large buffer that is freed, up to 32 MiB, and from then on keeps what such
/// buffers leave behind: frames of 16 MiB from sixty clients left a broker with twice the memory that they held. Measured with `apogee bench
/// overload`, 20 consumers that read nothing and 60 unfinished frames: growth of 223 MiB without this, of 157 MiB with it, where 128 MiB were
/// counted. Not lower: the chunks of the log's tail (1 MiB) are used again, and a map for each would cost its page faults.
///
/// No effect where the allocator is another one.
pub fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator has no safe interface")]
    // SAFETY: mallopt takes two numbers and touches nothing but the allocator's own settings, under its own lock.
    let _taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) };
}
