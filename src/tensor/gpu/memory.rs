//! What a driver says of an adapter's memory: wgpu has no question for it, the interfaces below do.

/// Who told how much memory an adapter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum MemorySource {
    /// Vulkan's `VK_EXT_memory_budget`: the budget of the largest device-local heap less what is in use of it.
    #[serde(rename = "VK_EXT_memory_budget")]
    VulkanBudget,
    /// Vulkan's memory heaps, which say how much there is and not how much of it is free.
    #[serde(rename = "Vulkan heap")]
    VulkanHeap,
    /// DXGI's `QueryVideoMemoryInfo`: the budget of local memory less what this process uses.
    #[serde(rename = "QueryVideoMemoryInfo")]
    Dxgi,
    /// Metal's `recommendedMaxWorkingSetSize` less `currentAllocatedSize`.
    #[serde(rename = "recommendedMaxWorkingSetSize")]
    Metal,
    /// Nobody.
    #[serde(rename = "unknown")]
    Unknown,
}

impl MemorySource {
    /// Name of the interface that told.
    pub fn name(self) -> &'static str {
        match self {
            MemorySource::VulkanBudget => "VK_EXT_memory_budget",
            MemorySource::VulkanHeap => "Vulkan heap",
            MemorySource::Dxgi => "QueryVideoMemoryInfo",
            MemorySource::Metal => "recommendedMaxWorkingSetSize",
            MemorySource::Unknown => "unknown",
        }
    }
}

/// An adapter's memory as far as its driver tells, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceMemory {
    /// All there is.
    pub total_bytes: Option<u64>,
    /// What this process could still have.
    pub free_bytes: Option<u64>,
    /// Who told.
    pub source: MemorySource,
}

impl DeviceMemory {
    const UNKNOWN: DeviceMemory = DeviceMemory {
        total_bytes: None,
        free_bytes: None,
        source: MemorySource::Unknown,
    };

    /// Asks the adapter's driver.
    pub(super) fn of(adapter: &wgpu::Adapter) -> DeviceMemory {
        let told = match adapter.get_info().backend {
            #[cfg(not(target_vendor = "apple"))]
            wgpu::Backend::Vulkan => vulkan(adapter),
            #[cfg(windows)]
            wgpu::Backend::Dx12 => dx12(adapter),
            #[cfg(target_vendor = "apple")]
            wgpu::Backend::Metal => metal(adapter),
            _ => None,
        };
        told.unwrap_or(DeviceMemory::UNKNOWN)
    }
}

/// The largest device-local heap, and what is free of it where the driver has `VK_EXT_memory_budget`.
#[cfg(not(target_vendor = "apple"))]
fn vulkan(adapter: &wgpu::Adapter) -> Option<DeviceMemory> {
    use ash::vk;

    // SAFETY: the handles are used while the guard that keeps the adapter alive is, and nothing is destroyed.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = hal.shared_instance();
    let (raw, device) = (instance.raw_instance(), hal.raw_physical_device());
    // SAFETY: `device` is a physical device of `raw`, here and below.
    let extensions = unsafe { raw.enumerate_device_extension_properties(device) }.ok()?;
    // SAFETY: as above.
    let api = unsafe { raw.get_physical_device_properties(device) }.api_version;
    let budgets = extensions
        .iter()
        .any(|e| e.extension_name_as_c_str() == Ok(ash::ext::memory_budget::NAME));
    // What takes the extension's structure is core since 1.1.
    let newer = api.min(instance.instance_api_version()) >= vk::API_VERSION_1_1;
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let heaps = if budgets && newer {
        let mut properties = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: as above; the driver has the extension whose structure is chained.
        unsafe { raw.get_physical_device_memory_properties2(device, &mut properties) };
        properties.memory_properties
    } else {
        // SAFETY: as above.
        unsafe { raw.get_physical_device_memory_properties(device) }
    };
    let local = |(_, heap): &(usize, &vk::MemoryHeap)| {
        heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)
    };
    let all = heaps.memory_heaps_as_slice().iter().enumerate();
    let (largest, heap) = all.filter(local).max_by_key(|(_, heap)| heap.size)?;
    let (budget, usage) = (budget.heap_budget[largest], budget.heap_usage[largest]);
    // A budget of 0 is a driver that lists the extension and does not fill it in.
    let told = budget > 0;
    Some(DeviceMemory {
        total_bytes: Some(heap.size),
        free_bytes: told.then(|| budget.min(heap.size).saturating_sub(usage)),
        source: match told {
            true => MemorySource::VulkanBudget,
            false => MemorySource::VulkanHeap,
        },
    })
}

/// The budget of the adapter's own memory. Not run so far: written after wgpu-hal's own use of it.
#[cfg(windows)]
fn dx12(adapter: &wgpu::Adapter) -> Option<DeviceMemory> {
    // SAFETY: the adapter is asked while the guard that keeps it alive is, and nothing is released.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Dx12>() }?;
    // The default group of segments is 0, DXGI_MEMORY_SEGMENT_GROUP_LOCAL.
    let info = hal
        .raw_adapter()
        .query_video_memory_info(Default::default())
        .ok()?;
    Some(DeviceMemory {
        total_bytes: Some(info.Budget),
        free_bytes: Some(info.Budget.saturating_sub(info.CurrentUsage)),
        source: MemorySource::Dxgi,
    })
}

/// What the system would have this process use of the memory. Not run so far.
#[cfg(target_vendor = "apple")]
fn metal(adapter: &wgpu::Adapter) -> Option<DeviceMemory> {
    use objc2_metal::MTLDevice;

    // SAFETY: the device is asked while the guard that keeps the adapter alive is, and nothing is released.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Metal>() }?;
    let device = hal.raw_device();
    let total = device.recommendedMaxWorkingSetSize();
    // Paravirtual devices say 0.
    (total > 0).then(|| DeviceMemory {
        total_bytes: Some(total),
        free_bytes: Some(total.saturating_sub(device.currentAllocatedSize() as u64)),
        source: MemorySource::Metal,
    })
}
