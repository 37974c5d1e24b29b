//! What programs rely on, through the mount, each checked by a program on a node.

use serde_json::json;

use super::{may_serve, put_cluster, put_server, run};
use crate::harness::{Server, Site};

/// Each line that is printed is a promise that does not hold.
const CHECKS: &str = r#"
import errno, fcntl, mmap, os, socket, stat, threading, time

def check(what, holds):
    if not holds:
        print('broken:', what)

def refused(code, call, *rest, **named):
    try:
        call(*rest, **named)
    except OSError as e:
        return e.errno == code or print('got', errno.errorcode.get(e.errno), 'for', call.__name__, rest)
    return print('no error for', call.__name__, rest) or False

def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)

def read(path):
    with open(path, 'rb') as f:
        return f.read()

os.mkdir('t'); os.chdir('t')
# Files, modes, times.
write('a', b'abc')
check('content', read('a') == b'abc')
os.chmod('a', 0o640); check('mode', stat.S_IMODE(os.stat('a').st_mode) == 0o640)
os.utime('a', ns=(1_000_000_007, 2_000_000_009)); s = os.stat('a'); check('times', (s.st_atime_ns, s.st_mtime_ns) == (1_000_000_007, 2_000_000_009))
check('owner', (s.st_uid, s.st_gid) == (os.getuid(), os.getgid()))
check('exclusive', refused(errno.EEXIST, os.open, 'a', os.O_CREAT | os.O_EXCL))
old = os.umask(0o077); write('m', b''); os.umask(old); check('umask', stat.S_IMODE(os.stat('m').st_mode) == 0o600)
check('not found', refused(errno.ENOENT, os.stat, 'none'))
check('chown', refused(errno.EPERM, os.chown, 'a', 0, 0))
check('long name', refused(errno.ENAMETOOLONG, open, 'x' * 256, 'w'))
write('ä b\n', b'1'); check('odd name', 'ä b\n' in os.listdir('.')); os.remove('ä b\n')
# Truncation and holes.
with open('h', 'wb') as f:
    f.seek(1 << 20); f.write(b'end')
check('hole', os.stat('h').st_size == (1 << 20) + 3 and read('h')[:9] == b'\0' * 9 and read('h')[-3:] == b'end')
os.truncate('h', 5); check('cut', read('h') == b'\0' * 5)
os.truncate('h', 9); check('grown', read('h') == b'\0' * 9)
with open('a', 'ab') as f:
    f.write(b'def'); f.flush(); f.write(b'ghi')
check('append', read('a') == b'abcdefghi')
fd = os.open('a', os.O_RDWR | os.O_TRUNC); check('emptied', os.fstat(fd).st_size == 0); os.close(fd)
# Links.
os.symlink('a', 's'); check('symlink', os.readlink('s') == 'a' and os.lstat('s').st_mode & 0o170000 == 0o120000)
os.symlink('x' * 1000, 'l'); check('long link', len(os.readlink('l')) == 1000); os.remove('l')
os.link('a', 'b'); check('hard link', os.stat('a').st_nlink == 2 and os.stat('b').st_ino == os.stat('a').st_ino)
write('b', b'both'); check('one file', read('a') == b'both')
os.remove('a'); check('other name', read('b') == b'both' and os.stat('b').st_nlink == 1)
check('link exists', refused(errno.EEXIST, os.link, 'b', 's'))
check('folder link', refused(errno.EPERM, os.link, '.', 'q'))
# Renames.
os.rename('b', 'c'); check('renamed', read('c') == b'both' and not os.path.exists('b'))
write('d', b'over'); os.rename('c', 'd'); check('replaced', read('d') == b'both')
os.mkdir('e'); os.mkdir('f'); os.rename('d', 'e/d'); check('moved', read('e/d') == b'both')
check('not empty', refused(errno.ENOTEMPTY, os.rmdir, 'e'))
check('folder over full one', refused(errno.ENOTEMPTY, os.rename, 'f', 'e'))
check('into itself', refused(errno.EINVAL, os.rename, 'e', 'e/x'))
check('file over folder', refused(errno.EISDIR, os.rename, 'm', 'f'))
check('folder over file', refused(errno.ENOTDIR, os.rename, 'f', 'm'))
check('not a folder', refused(errno.ENOTDIR, os.stat, 'm/x'))
check('unlink a folder', refused(errno.EISDIR, os.unlink, 'f'))
check('rmdir a file', refused(errno.ENOTDIR, os.rmdir, 'm'))
os.rmdir('f')
# What is open stays, whatever becomes of its name: often, as the server gives the number of what is gone to what is made next.
for n in range(100):
    f = open('o', 'w+b'); f.write(b'still'); f.flush(); os.remove('o')
    check('name gone', not os.path.exists('o'))
    f.seek(0); check('open and removed', f.read() == b'still' and os.fstat(f.fileno()).st_size == 5)
    f.write(b' here'); f.seek(0); check('written after', f.read() == b'still here'); f.close()
    f = open('p', 'w+b'); f.write(b'old'); f.flush(); write('n', b'new'); os.rename('n', 'p'); f.seek(0)
    check('open and replaced', f.read() == b'old' and read('p') == b'new'); f.close()
# A folder that has what was removed while it was open is not empty until that is closed.
os.mkdir('k'); f = open('k/o', 'w+b'); os.remove('k/o'); check('kept in it', refused(errno.ENOTEMPTY, os.rmdir, 'k')); f.close()
until = time.time() + 10
while os.listdir('k') and time.time() < until: time.sleep(0.01)
os.rmdir('k')
until = time.time() + 10  # the last close is told to the server after the program went on
while [n for n in os.listdir('.') if n.startswith('.nfs')] and time.time() < until: time.sleep(0.01)
check('nothing left', not [n for n in os.listdir('.') if n.startswith('.nfs')])
# Memory.
write('mm', b'\0' * 8192)
with open('mm', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 8192); m[4090:4100] = b'0123456789'; check('mapped', m[4090:4100] == b'0123456789'); m.flush(); m.close()
check('mapped is written', read('mm')[4090:4100] == b'0123456789')
with open('mm', 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); check('mapped to read', m[4094:4096] == b'45'); m.close()
# Large folders, read while nothing is missed or told twice.
os.mkdir('big')
for n in range(3000):
    os.close(os.open('big/file-with-a-name-%d' % n, os.O_CREAT | os.O_WRONLY))
names = os.listdir('big'); check('large folder', len(names) == 3000 and len(set(names)) == 3000)
check('types', all(e.is_file() and e.stat().st_size == 0 for e in os.scandir('big')))
seen = set()
for e in os.scandir('big'):
    seen.add(e.name); os.remove('big/' + e.name)
for n in os.listdir('big'): seen.add(n); os.remove('big/' + n)
check('removed while read', len(seen) == 3000 and not os.listdir('big')); os.rmdir('big')
# Pipes and sockets.
os.mkfifo('pipe'); check('pipe', stat.S_ISFIFO(os.stat('pipe').st_mode))
t = threading.Thread(target=lambda: write('pipe', b'through')); t.start(); check('through a pipe', read('pipe') == b'through'); t.join()
u = socket.socket(socket.AF_UNIX); u.bind('sock'); check('socket', stat.S_ISSOCK(os.stat('sock').st_mode)); u.close()
check('device', refused(errno.EPERM, os.mknod, 'dev', 0o600 | stat.S_IFCHR, os.makedev(1, 3)))
# Locks that other nodes would not know of are not given.
with open('lock', 'w') as f:
    check('flock', refused(errno.ENOLCK, fcntl.flock, f, fcntl.LOCK_EX | fcntl.LOCK_NB))
    check('lockf', refused(errno.ENOLCK, fcntl.lockf, f, fcntl.LOCK_EX | fcntl.LOCK_NB))
# Room.
v = os.statvfs('.'); check('room', 0.9e9 < v.f_blocks * v.f_frsize < 1.1e9 and v.f_bavail > 0 and v.f_files > 0)
# Groups of folders.
os.mkdir('sg'); os.chmod('sg', 0o2775); os.mkdir('sg/in'); check('set-group', os.stat('sg/in').st_mode & 0o2000)
# Sticky folders and what belongs to others.
os.mkdir('shut'); write('shut/x', b''); os.chmod('shut', 0o500); check('shut', refused(errno.EACCES, os.remove, 'shut/x')); os.chmod('shut', 0o700)
# Much at once.
def many(n):
    for i in range(30):
        write('w%d-%d' % (n, i), bytes([n]) * 100_000)
        assert read('w%d-%d' % (n, i)) == bytes([n]) * 100_000
threads = [threading.Thread(target=many, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
check('side by side', all(os.stat('w%d-29' % n).st_size == 100_000 for n in range(8)))
# Large files, with what is on the disk said to be.
data = os.urandom(1 << 20)
with open('large', 'wb') as f:
    for n in range(80): f.write(data)
    os.fsync(f.fileno())
with open('large', 'rb') as f:
    check('large file', all(f.read(1 << 20) == data for n in range(80)) and not f.read(1))
# Full.
try:
    with open('full', 'wb') as f:
        for n in range(1100): f.write(data)
    print('broken: full')
except OSError as e:
    check('full', e.errno == errno.ENOSPC)
os.remove('full'); write('after', b'room'); check('after full', read('after') == b'room')
print('checked')
"#;

#[tokio::test]
async fn programs_find_what_they_rely_on() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    put_cluster(&site, "c", "nfs", "rw").await;
    let over = json!({ "environmentVariables": [{ "name": "CHECKS", "value": CHECKS }] });
    let job = site.run("checks", "c", "cd $AZ_BATCHAI_MOUNT_ROOT/nfs; python3 -c \"$CHECKS\" 2>&1", over).await;
    let said = site.stdout("checks").await;
    assert_eq!(said, "checked\n", "{job}");

    // What one node closed or replaced another one sees when it opens it, also where it believes for longer what it knows of names; with
    // `nolock` a node has locks of its own.
    put_cluster(&site, "d", "nfs", "rw,nolock,actimeo=60").await;
    for round in 0..3 {
        run(
            &site,
            &format!("w{round}"),
            "c",
            &format!("seq {} > seen; echo {round} > only-{round}; echo {round} > new; mv new replaced", round + 1),
        )
        .await;
        let said =
            run(&site, &format!("r{round}"), "d", &format!("tail -n1 seen; cat only-{round} replaced; flock seen echo locked"))
                .await;
        assert_eq!(said, format!("{}\n{round}\n{round}\nlocked\n", round + 1));
    }
}
