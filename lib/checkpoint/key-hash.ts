/**
 * The 32-bit hash of a path, equal in every process: FNV-1a over the UTF-16 code units, then mixed so that paths
 * which differ in the last character do not fall into neighbouring key groups.
 */
export function keyHashOf(path: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < path.length; index++)
    hash = Math.imul(hash ^ path.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
