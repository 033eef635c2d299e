const { createHash } = require("node:crypto");

/** What a name is called in a template: letters and digits, and different for different names. */
function logicalName(name) {
  return name.replace(/[^A-Za-z0-9]/g, "") + createHash("sha256").update(name).digest("hex").slice(0, 8);
}

module.exports = { logicalName };
