/** Milliseconds since 1970, as `Date.now`. Passed in, so that time can be moved in tests. */
export type Clock = () => number;
