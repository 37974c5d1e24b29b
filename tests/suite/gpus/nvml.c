/* Stands in for NVIDIA's management library: two GPUs, and what befalls them as a file beside it says, `FILE.state`:
 *   lost GPU · ecc GPU COUNT · xid GPU NUMBER
 * Each is read when it is asked for; an Xid is told once for each time that the file is replaced: by inode and time, since two of one
 * clock tick have one time. Names and numbers are those of nvml.h.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define NOT_FOUND 6
#define TIMEOUT 10
#define LOST 15
#define XID 8ULL

typedef struct gpu { unsigned index; const char *uuid; } *nvmlDevice_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { nvmlDevice_t device; unsigned long long type, data; unsigned gpu, compute; } event;

static struct gpu gpus[] = { { 0, "GPU-stub-0" }, { 1, "GPU-stub-1" } };

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }

static int state(char *word, unsigned *gpu, unsigned long long *number, struct stat *file_of) {
    Dl_info info;
    char path[4096];
    *word = 0, *gpu = 99, *number = 0;
    if (!dladdr((void *)nvmlInit_v2, &info)) return 0;
    snprintf(path, sizeof path, "%s.state", info.dli_fname);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int read = fscanf(file, "%15s %u %llu", word, gpu, number);
    if (file_of && fstat(fileno(file), file_of) != 0) read = 0;
    fclose(file);
    return read >= 2;
}

static int is_lost(unsigned index) {
    char word[16];
    unsigned gpu;
    unsigned long long number;
    return state(word, &gpu, &number, NULL) && !strcmp(word, "lost") && gpu == index;
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "550.00"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    if (index > 1) return NOT_FOUND;
    if (is_lost(index)) return LOST;
    *device = &gpus[index];
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    for (unsigned index = 0; index < 2; index++)
        if (!strcmp(uuid, gpus[index].uuid)) return nvmlDeviceGetHandleByIndex_v2(index, device);
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(nvmlDevice_t device, char *text, unsigned length) { snprintf(text, length, "%s", device->uuid); return 0; }
int nvmlDeviceGetName(nvmlDevice_t device, char *text, unsigned length) { (void)device; snprintf(text, length, "Stub K80"); return 0; }
int nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) { *minor = device->index; return 0; }

int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, memory_v2 *memory) {
    (void)device;
    memory->total = 12ULL << 30;
    memory->used = 3ULL << 30;
    return 0;
}

int nvmlDeviceGetUtilizationRates(nvmlDevice_t device, unsigned *rates) {
    rates[0] = device->index ? 80 : 40; /* of the GPU */
    rates[1] = 1;                       /* of its memory */
    return 0;
}

int nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned kind, unsigned counter, unsigned long long *count) {
    char word[16];
    unsigned gpu;
    unsigned long long number;
    (void)kind, (void)counter;
    *count = state(word, &gpu, &number, NULL) && !strcmp(word, "ecc") && gpu == device->index ? number : 0;
    return 0;
}

int nvmlEventSetCreate(void **set) { *set = gpus; return 0; }
int nvmlEventSetFree(void *set) { (void)set; return 0; }
int nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, void *set) { (void)device, (void)types, (void)set; return 0; }
int nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) { (void)device; *types = XID; return 0; }

int nvmlEventSetWait_v2(void *set, event *told, unsigned timeout) {
    static struct stat last;
    (void)set;
    for (unsigned waited = 0; waited < timeout; waited += 10) {
        char word[16];
        unsigned gpu;
        unsigned long long number;
        struct stat now;
        struct timespec pause = { 0, 10000000 };
        if (state(word, &gpu, &number, &now) && !strcmp(word, "xid") && gpu < 2
            && (now.st_ino != last.st_ino || memcmp(&now.st_mtim, &last.st_mtim, sizeof now.st_mtim))) {
            last = now;
            memset(told, 0, sizeof *told);
            told->device = &gpus[gpu], told->type = XID, told->data = number;
            return 0;
        }
        nanosleep(&pause, NULL);
    }
    return TIMEOUT;
}
