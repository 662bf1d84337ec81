/* A stand-in for NVIDIA's libnvidia-ml.so.1, so that Interlock's reading of GPUs is tested where there is no GPU.
 * Built at test time against NVIDIA's own nvml.h: the layouts of its structs are the real ones, the behaviour is ours.
 *
 * The world is the folder $NVML_STANDIN:
 *   gpu0, gpu1, ...   one file per GPU (their number is the number of GPUs), lines "key=value":
 *                     recovery, rows_correctable, rows_uncorrectable, rows_pending, rows_failed, ecc_volatile,
 *                     ecc_aggregate, clocks (bit mask), link_failed, temperature, persistence, pids (comma separated)
 *                     lost=1 (every call says so), stall_ms=N (every call takes so long), NAME_error=CODE (that call fails)
 *   events            lines "GPU TYPE DATA", appended; a wait delivers those after its event set was made
 * With -DOLD_DRIVER functions that newer drivers brought are missing. */
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_GPUS = 8, MOST_SETS = 16, LINE = 256, STEP_US = 20000 };

struct gpu { int number; };
struct watch { int used; long read_to; unsigned long long wanted[MOST_GPUS]; };

static struct gpu gpus[MOST_GPUS] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static struct watch watches[MOST_SETS];

static FILE *world(const char *name) {
    char path[1024];
    const char *folder = getenv("NVML_STANDIN");
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "r");
}

static FILE *gpu_file(int number) {
    char name[16];
    snprintf(name, sizeof name, "gpu%d", number);
    return world(name);
}

/* Copies the text after "key=" into `out`; leaves it alone when the GPU's file has no such line. */
static void text_of(int number, const char *key, char *out, size_t room) {
    char line[LINE];
    size_t length = strlen(key);
    FILE *file = gpu_file(number);
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, room, "%s", line + length + 1);
        }
    }
    fclose(file);
}

static unsigned long long number_of(int number, const char *key, unsigned long long otherwise) {
    char text[LINE] = "";
    text_of(number, key, text, sizeof text);
    return text[0] ? strtoull(text, NULL, 0) : otherwise;
}

/* What stands before the answer of every call: it may stall, the GPU may be lost, the call may be made to fail. */
static nvmlReturn_t before(nvmlDevice_t device, const char *call, int *number) {
    char key[64];
    struct gpu *gpu = (struct gpu *)device;
    if (gpu < gpus || gpu >= gpus + MOST_GPUS) return NVML_ERROR_INVALID_ARGUMENT;
    *number = gpu->number;
    usleep((useconds_t)number_of(gpu->number, "stall_ms", 0) * 1000);
    if (number_of(gpu->number, "lost", 0)) return NVML_ERROR_GPU_IS_LOST;
    snprintf(key, sizeof key, "%s_error", call);
    return (nvmlReturn_t)number_of(gpu->number, key, NVML_SUCCESS);
}

#define ASK(call)                                          \
    int n;                                                 \
    nvmlReturn_t refusal = before(device, call, &n);       \
    if (refusal != NVML_SUCCESS) return refusal

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    return (nvmlReturn_t)number_of(0, "init_error", NVML_SUCCESS);
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }

const char *nvmlErrorString(nvmlReturn_t code) {
    switch (code) {
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    default: return "stand-in error";
    }
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    FILE *file;
    for (*count = 0; *count < MOST_GPUS && (file = gpu_file((int)*count)); ++*count) fclose(file);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *handle) {
    unsigned int count;
    nvmlDeviceGetCount_v2(&count);
    if (index >= count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlDevice_t device = *handle = (nvmlDevice_t)&gpus[index];
    ASK("handle");
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    ASK("uuid");
    snprintf(uuid, length, "GPU-5a4d0000-0000-0000-0000-00000000000%d", n);
    text_of(n, "uuid", uuid, length);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    ASK("name");
    snprintf(name, length, "Stand-in GPU");
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    ASK("pci");
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", 0x10 + n);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    ASK("temperature");
    if (sensor != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
    *celsius = (unsigned int)number_of(n, "temperature", 40);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                         unsigned long long *errors) {
    ASK("ecc");
    if (type != NVML_MEMORY_ERROR_TYPE_UNCORRECTED) return NVML_ERROR_INVALID_ARGUMENT;
    *errors = number_of(n, counter == NVML_VOLATILE_ECC ? "ecc_volatile" : "ecc_aggregate", 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    ASK("persistence");
    *mode = (nvmlEnableState_t)number_of(n, "persistence", 0);
    return NVML_SUCCESS;
}

static nvmlReturn_t pids_of(int n, unsigned int *count, nvmlProcessInfo_t *infos) {
    char text[LINE] = "", *rest = text, *pid;
    unsigned int room = *count, found = 0;
    text_of(n, "pids", text, sizeof text);
    while ((pid = strsep(&rest, ","))) {
        if (!*pid) continue;
        if (infos && found < room) {
            memset(&infos[found], 0, sizeof *infos);
            infos[found].pid = (unsigned int)strtoul(pid, NULL, 10);
        }
        found++;
    }
    *count = found;
    return infos ? (found <= room ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE)
                 : (found ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    ASK("processes");
    return pids_of(n, count, infos);
}

#ifndef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    ASK("temperature");
    if (temperature->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    temperature->temperature = (int)number_of(n, "temperature", 40);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *correctable, unsigned int *uncorrectable,
                                       unsigned int *pending, unsigned int *failed) {
    ASK("rows");
    *correctable = (unsigned int)number_of(n, "rows_correctable", 0);
    *uncorrectable = (unsigned int)number_of(n, "rows_uncorrectable", 0);
    *pending = (unsigned int)number_of(n, "rows_pending", 0);
    *failed = (unsigned int)number_of(n, "rows_failed", 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    ASK("clocks");
    *reasons = number_of(n, "clocks", 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    ASK("fields");
    for (int i = 0; i < count; i++) {
        nvmlFieldValue_t *value = &values[i];
        value->nvmlReturn = NVML_SUCCESS;
        if (value->fieldId == NVML_FI_DEV_GET_GPU_RECOVERY_ACTION) {
            value->nvmlReturn = (nvmlReturn_t)number_of(n, "recovery_error", NVML_SUCCESS);
            value->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            value->value.uiVal = (unsigned int)number_of(n, "recovery", NVML_GPU_RECOVERY_ACTION_NONE);
        } else if (value->fieldId == NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS && value->scopeId < 2) {
            /* two links; the failures are counted on the second */
            value->nvmlReturn = (nvmlReturn_t)number_of(n, "link_error", NVML_SUCCESS);
            value->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
            value->value.ullVal = value->scopeId == 1 ? number_of(n, "link_failed", 0) : 0;
        } else {
            value->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        }
    }
    return NVML_SUCCESS;
}
#endif

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    ASK("events");
    *types = nvmlEventTypeAll;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    for (int i = 0; i < MOST_SETS; i++) {
        if (watches[i].used) continue;
        FILE *file = world("events");
        memset(&watches[i], 0, sizeof watches[i]);
        watches[i].used = 1;
        if (file) {
            fseek(file, 0, SEEK_END); /* what happened before is not reported, as the header says */
            watches[i].read_to = ftell(file);
            fclose(file);
        }
        *set = (nvmlEventSet_t)&watches[i];
        return NVML_SUCCESS;
    }
    return NVML_ERROR_UNKNOWN; /* somebody does not free its sets */
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    ((struct watch *)set)->used = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    ASK("events");
    char path[1024];
    snprintf(path, sizeof path, "%s/registered", getenv("NVML_STANDIN"));
    FILE *file = fopen(path, "a");
    if (!file) return NVML_ERROR_UNKNOWN;
    ((struct watch *)set)->wanted[n] |= types;
    fprintf(file, "%d\n", n); /* a test waits for this: from now on events are seen */
    fclose(file);
    return NVML_SUCCESS;
}

/* The next line that this set asked for; a line that is not finished yet is left for later. */
static int next_event(struct watch *watch, nvmlEventData_t *data) {
    char line[LINE];
    FILE *file = world("events");
    int found = 0;
    if (!file) return 0;
    fseek(file, watch->read_to, SEEK_SET);
    while (!found && fgets(line, sizeof line, file) && strchr(line, '\n')) {
        unsigned int n;
        unsigned long long type, payload;
        watch->read_to = ftell(file);
        if (sscanf(line, "%u %llu %llu", &n, &type, &payload) != 3 || n >= MOST_GPUS) continue;
        if (!(watch->wanted[n] & type)) continue;
        memset(data, 0, sizeof *data);
        data->device = (nvmlDevice_t)&gpus[n];
        data->eventType = type;
        data->eventData = payload;
        data->gpuInstanceId = data->computeInstanceId = 0xFFFFFFFF;
        found = 1;
    }
    fclose(file);
    return found;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    struct watch *watch = (struct watch *)set;
    for (unsigned long long waited_us = 0;; waited_us += STEP_US) {
        if (next_event(watch, data)) return NVML_SUCCESS;
        for (int i = 0; i < MOST_GPUS; i++)
            if (watch->wanted[i] && number_of(i, "lost", 0)) return NVML_ERROR_GPU_IS_LOST;
        if (waited_us >= timeout_ms * 1000ULL) return NVML_ERROR_TIMEOUT;
        usleep(STEP_US);
    }
}
