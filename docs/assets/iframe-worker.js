// Browsers start no worker from a file, and the search runs in one. On pages that were opened from a disk
// a hidden frame takes its place. Its name keeps mkdocs-material from fetching another.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc =
        `<script>postMessage = data => frameElement.dispatchEvent(new MessageEvent("said", { data }))</script>` +
        `<script src="${url}"></script>`
      this.frame.addEventListener("said", ({ data }) => this.dispatchEvent(new MessageEvent("message", { data })))
      this.ready = new Promise(resolve => this.frame.addEventListener("load", resolve, { once: true }))
      document.documentElement.append(this.frame)
    }
    async postMessage(data) {
      await this.ready
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
    }
  }
