// SPDX-License-Identifier: MIT
#include "base/err.h"

#include <errno.h>

const char *err_text(int err)
{
    switch (err) {
    case OK:
        return "ok";
    case E_SYNTAX:
        return "malformed";
    case E_LIMIT:
        return "beyond a limit";
    case E_FULL:
        return "no room left";
    case E_IO:
        return "input/output error";
    case E_NOT_FOUND:
        return "no such thing";
    case E_EXISTS:
        return "already there";
    case E_CLOSED:
        return "closed";
    case E_TIMEOUT:
        return "timed out";
    case E_BUSY:
        return "in use by another";
    case E_DENIED:
        return "not permitted";
    case E_VERSION:
        return "made by a newer release";
    case E_DAMAGED:
        return "damaged";
    case E_TLS:
        return "TLS failed";
    case E_REFUSED:
        return "connection refused";
    case E_UNREACHABLE:
        return "unreachable";
    case E_AGAIN:
        return "not now, try later";
    default:
        return "unknown error";
    }
}

int err_from_errno(int errno_value)
{
    switch (errno_value) {
    case 0:
        return OK;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return E_FULL;
    case EFBIG:
    case ENAMETOOLONG:
    case EMSGSIZE:
    case E2BIG:
        return E_LIMIT;
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
    case ENODEV:
    case ENXIO:
        return E_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return E_EXISTS;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
    case ECANCELED:
        return E_CLOSED;
    case ETIMEDOUT:
        return E_TIMEOUT;
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
        return E_BUSY;
    case EACCES:
    case EPERM:
    case EROFS:
        return E_DENIED;
    case ECONNREFUSED:
        return E_REFUSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
        return E_UNREACHABLE;
    case EAGAIN:
    case EINTR:
        return E_AGAIN;
    default:
        return E_IO;
    }
}
