/** In the place of a package that the SDK loads and nothing here calls. */
module.exports = { PubSub: class PubSub {} };
