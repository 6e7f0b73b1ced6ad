/* Makes fdatasync slow on some files: LD_PRELOAD this, and name a control file in SLOW_SYNC_CONTROL.
 *
 * The control file holds a piece of text. While it is not empty, every fdatasync of a file whose path contains that
 * text takes a second longer. It is read at each call, so a disk can become slow while the program runs.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_slow(int file) {
    const char *control = getenv("SLOW_SYNC_CONTROL");
    char wanted[256] = "", link[64], path[4096] = "";
    int opened = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (opened < 0)
        return 0;
    ssize_t length = read(opened, wanted, sizeof wanted - 1);
    close(opened);
    if (length <= 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) <= 0)
        return 0;
    return strstr(path, wanted) != NULL;
}

int fdatasync(int file) {
    if (is_slow(file))
        sleep(1);
    return (int)syscall(SYS_fdatasync, file);
}
