/** The header that proves that a request is from our page; no form of another site can set it. */

export const CSRF_HEADER = 'x-litestream-token';
