/* A folder as a network volume has it:

       slowfs ROOT MOUNTPOINT MICROSECONDS BYTES COUNTS FOLLOW ERRATIC

   Everything is passed through to ROOT, MICROSECONDS late, a read also by its size at BYTES a
   microsecond (0: at once). Attributes are kept for 5 s, contents by the kernel, as such volumes'
   clients do. COUNTS is a file of eight 64-bit numbers, mapped, so that it can be read at any time.
   FOLLOW is 1 where an absolute link stands for what it leads to: a volume laid out of links. With
   ERRATIC, the number of a series of chances, MICROSECONDS is what a call takes on average: most are
   done in half of it, and one in 32 takes sixteen times as long.

   Threads and sizes of requests are libfuse's own: ten threads, 128 kB a read at most (256 kB where
   the reader says that it reads in order). */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define KEPT_SECONDS 5.0

/* In the order of the fields of Counts, in slow_volume.py. */
enum { GETATTR, READLINK, READDIR, OPEN, READ, WRITE, CHANGE, BYTES_READ, KINDS };

static char root[PATH_MAX];
static long latency, speed;
static int follow;
static unsigned erratic; /* 0: every call takes as long as any other */
static uint64_t *counts;

typedef struct {
    char path[2 * PATH_MAX];
} Place;

static Place below(const char *path) {
    Place place;
    snprintf(place.path, sizeof place.path, "%s%s", root, path);
    return place;
}

static void count(int kind, uint64_t by) { __atomic_fetch_add(&counts[kind], by, __ATOMIC_RELAXED); }

static void nap(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    if (microseconds > 0) nanosleep(&time, NULL);
}

static long drawn(void) {
    static _Thread_local unsigned chance;
    if (!erratic) return latency;
    if (!chance) chance = __atomic_add_fetch(&erratic, 1, __ATOMIC_RELAXED);
    return rand_r(&chance) / 64 % 32 ? latency / 2 : latency * 16;
}

static void late(int kind) {
    count(kind, 1);
    nap(drawn());
}

static int status(long result) { return result < 0 ? -errno : 0; }

/* What stands there; with FOLLOW, what an absolute link leads to. */
static int look(const char *path, struct stat *found) {
    if (lstat(path, found)) return -errno;
    char first;
    if (follow && S_ISLNK(found->st_mode) && readlink(path, &first, 1) == 1 && first == '/')
        return status(stat(path, found));
    return 0;
}

static int slow_getattr(const char *path, struct stat *found, struct fuse_file_info *file) {
    (void)file;
    late(GETATTR);
    return look(below(path).path, found);
}

static int slow_readlink(const char *path, char *target, size_t size) {
    late(READLINK);
    ssize_t length = readlink(below(path).path, target, size - 1);
    if (length < 0) return -errno;
    target[length] = 0;
    return 0;
}

static int slow_readdir(
    const char *path, void *list, fuse_fill_dir_t add, off_t from, struct fuse_file_info *file,
    enum fuse_readdir_flags flags
) {
    (void)from, (void)file, (void)flags;
    late(READDIR);
    nap(drawn()); /* it is opened and read */
    DIR *folder = opendir(below(path).path);
    if (!folder) return -errno;
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat found = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
        if (follow && entry->d_type == DT_LNK) {
            Place place = below(path);
            strncat(place.path, "/", PATH_MAX);
            strncat(place.path, entry->d_name, PATH_MAX);
            look(place.path, &found);
        }
        if (add(list, entry->d_name, &found, 0, 0)) break;
    }
    return status(closedir(folder));
}

static int opened(int descriptor, struct fuse_file_info *file) {
    if (descriptor < 0) return -errno;
    file->fh = descriptor;
    file->keep_cache = 1;
    return 0;
}

static int slow_open(const char *path, struct fuse_file_info *file) {
    late(OPEN);
    return opened(open(below(path).path, file->flags), file);
}

static int slow_create(const char *path, mode_t mode, struct fuse_file_info *file) {
    late(CHANGE);
    return opened(open(below(path).path, file->flags, mode), file);
}

static int slow_read(
    const char *path, char *into, size_t size, off_t from, struct fuse_file_info *file
) {
    (void)path;
    count(READ, 1);
    ssize_t got = pread(file->fh, into, size, from);
    if (got < 0) return -errno;
    count(BYTES_READ, got);
    nap(drawn() + (speed ? got / speed : 0));
    return got;
}

static int slow_write(
    const char *path, const char *data, size_t size, off_t at, struct fuse_file_info *file
) {
    (void)path;
    late(WRITE);
    ssize_t done = pwrite(file->fh, data, size, at);
    return done < 0 ? -errno : done;
}

static int slow_fsync(const char *path, int data_alone, struct fuse_file_info *file) {
    (void)path;
    return status(data_alone ? fdatasync(file->fh) : fsync(file->fh));
}

static int slow_release(const char *path, struct fuse_file_info *file) {
    (void)path;
    return status(close(file->fh));
}

static int slow_mkdir(const char *path, mode_t mode) {
    late(CHANGE);
    return status(mkdir(below(path).path, mode));
}

static int slow_rmdir(const char *path) {
    late(CHANGE);
    return status(rmdir(below(path).path));
}

static int slow_unlink(const char *path) {
    late(CHANGE);
    return status(unlink(below(path).path));
}

static int slow_rename(const char *from, const char *to, unsigned flags) {
    late(CHANGE);
    return status(renameat2(AT_FDCWD, below(from).path, AT_FDCWD, below(to).path, flags));
}

static int slow_link(const char *from, const char *to) {
    late(CHANGE);
    return status(link(below(from).path, below(to).path));
}

static int slow_symlink(const char *target, const char *path) {
    late(CHANGE);
    return status(symlink(target, below(path).path));
}

static int slow_truncate(const char *path, off_t size, struct fuse_file_info *file) {
    late(CHANGE);
    return status(file ? ftruncate(file->fh, size) : truncate(below(path).path, size));
}

static int slow_chmod(const char *path, mode_t mode, struct fuse_file_info *file) {
    (void)file;
    return status(chmod(below(path).path, mode));
}

static int slow_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *file) {
    (void)file;
    return status(lchown(below(path).path, user, group));
}

static int slow_utimens(
    const char *path, const struct timespec times[2], struct fuse_file_info *file
) {
    (void)file;
    return status(utimensat(AT_FDCWD, below(path).path, times, AT_SYMLINK_NOFOLLOW));
}

static int slow_statfs(const char *path, struct statvfs *found) {
    return status(statvfs(below(path).path, found));
}

static void *slow_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    config->attr_timeout = config->entry_timeout = KEPT_SECONDS;
    config->negative_timeout = 0;
    config->kernel_cache = 1;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = slow_init,
    .getattr = slow_getattr,
    .readlink = slow_readlink,
    .readdir = slow_readdir,
    .open = slow_open,
    .create = slow_create,
    .read = slow_read,
    .write = slow_write,
    .fsync = slow_fsync,
    .release = slow_release,
    .mkdir = slow_mkdir,
    .rmdir = slow_rmdir,
    .unlink = slow_unlink,
    .rename = slow_rename,
    .link = slow_link,
    .symlink = slow_symlink,
    .truncate = slow_truncate,
    .chmod = slow_chmod,
    .chown = slow_chown,
    .utimens = slow_utimens,
    .statfs = slow_statfs,
};

static uint64_t *mapped(const char *path) {
    size_t size = KINDS * sizeof(uint64_t);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, size)) return NULL;
    void *place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return place == MAP_FAILED ? NULL : place;
}

int main(int given, char **arguments) {
    if (given != 8 || !realpath(arguments[1], root) || !(counts = mapped(arguments[5]))) {
        fprintf(stderr, "slowfs ROOT MOUNTPOINT MICROSECONDS BYTES COUNTS FOLLOW ERRATIC\n");
        return 2;
    }
    latency = atol(arguments[3]);
    speed = atol(arguments[4]);
    follow = atoi(arguments[6]);
    erratic = atoi(arguments[7]);
    umask(0); /* the caller's has been applied */
    char *of_fuse[] = {arguments[0], arguments[2], "-f", NULL};
    return fuse_main(3, of_fuse, &operations, NULL);
}
