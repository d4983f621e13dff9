//! How much memory a GPU has, from the one interface below wgpu that says it. It never takes any.

/// Bytes of the largest heap that the device calls local; `None` where the driver cannot be asked, as on Metal and DX12.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT` (Vulkan 1.3, 11.2).
    const DEVICE_LOCAL: u32 = 1;

    // SAFETY: the handle is only asked for properties, and lives no longer than this call, which borrows the adapter.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: the physical device is this adapter's, and comes from the same instance.
    let memory = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Metal is not asked: its figure is advice, and shared with everything else.
#[cfg(target_vendor = "apple")]
pub(crate) fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}
